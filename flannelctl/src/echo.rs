//! An echo request by the system's `ping`, and what its words mean.

use std::fmt;
use std::net::IpAddr;
use std::process::Command;

/// Headers of an echo request, IP included.
const HEADERS: [u32; 2] = [28, 48];

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Echo {
    /// It was answered.
    Answered,
    /// Somebody says it is too long, and what would not be.
    TooLong(Option<u32>),
    /// Somebody says it cannot get there.
    Unreachable(String),
    /// Nobody says anything.
    Silence,
    /// It could not be sent at all.
    Impossible(String),
}

impl fmt::Display for Echo {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answered => out.write_str("it answers"),
            Self::TooLong(None) => out.write_str("packets of that size do not pass"),
            Self::TooLong(Some(most)) => write!(out, "only packets of {most} bytes pass"),
            Self::Silence => out.write_str("nothing came back"),
            Self::Unreachable(why) | Self::Impossible(why) => out.write_str(why),
        }
    }
}

/// Sends one request, as a whole packet of a size that must not be fragmented, or a short one.
pub(crate) fn echo(to: IpAddr, size: Option<u32>) -> Echo {
    let mut command = Command::new("ping");
    command
        .env("LC_ALL", "C")
        .args(["-n", "-c", "1", "-W", "2"]);
    if let Some(size) = size {
        let payload = size.saturating_sub(HEADERS[usize::from(to.is_ipv6())]);
        command.args(["-M", "do", "-s", &payload.to_string()]);
    }
    match command.arg(to.to_string()).output() {
        Err(error) => Echo::Impossible(format!("cannot run ping: {error}; install iputils-ping")),
        Ok(output) if output.status.success() => Echo::Answered,
        Ok(output) => {
            let said = [output.stdout, output.stderr].concat();
            meaning(&String::from_utf8_lossy(&said))
        }
    }
}

/// What `ping` says when there was no answer.
fn meaning(said: &str) -> Echo {
    let line = |words: &str| said.lines().find(|line| line.contains(words));
    let number = |line: &str| {
        let after = line.split("mtu").nth(1)?;
        let digits = after.trim_start_matches(['=', ' ']);
        let end = digits.find(|letter: char| !letter.is_ascii_digit());
        digits[..end.unwrap_or(digits.len())].parse().ok()
    };
    let too_long = ["essage too long", "Frag needed", "Packet too big"];
    if let Some(line) = too_long.iter().find_map(|words| line(words)) {
        return Echo::TooLong(number(line));
    }
    let unreachable = ["nreachable", "Time to live exceeded", "prohibited"];
    if let Some(line) = unreachable.iter().find_map(|words| line(words)) {
        return Echo::Unreachable(line.trim().to_owned());
    }
    match said.contains("1 packets transmitted") {
        true => Echo::Silence,
        false => Echo::Impossible(said.trim().to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ping_says_is_understood() {
        let told = |said: &str| meaning(&format!("{said}\n1 packets transmitted, 0 received"));
        assert_eq!(
            told("ping: local error: message too long, mtu=1472"),
            Echo::TooLong(Some(1472))
        );
        assert_eq!(
            told("From 10.5.1.0 icmp_seq=1 Frag needed and DF set (mtu = 1400)"),
            Echo::TooLong(Some(1400))
        );
        assert_eq!(
            told("From ::1 icmp_seq=1 Packet too big: mtu=1280"),
            Echo::TooLong(Some(1280))
        );
        let refused = told("From 10.5.1.0 icmp_seq=1 Destination Net Unreachable");
        assert!(matches!(refused, Echo::Unreachable(_)), "{refused:?}");
        assert_eq!(told(""), Echo::Silence);
        let impossible = meaning("ping: socket: Operation not permitted");
        assert!(matches!(impossible, Echo::Impossible(_)), "{impossible:?}");
    }
}
