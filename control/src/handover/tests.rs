//! Words, descriptors, silence and nonsense, over a real socket.

use super::*;
use std::io::Seek;
use std::os::fd::AsFd;

const SOON: Duration = Duration::from_secs(5);

fn pair() -> (Channel, Channel) {
    let (one, other) = UnixStream::pair().unwrap();
    (Channel::with(one).unwrap(), Channel::with(other).unwrap())
}

/// Sends bytes as they are.
fn raw(channel: &Channel, lengths: [u32; 2], text: &[u8]) {
    let head = lengths.map(u32::to_le_bytes).concat();
    (&channel.0).write_all(&head).unwrap();
    (&channel.0).write_all(text).unwrap();
}

#[test]
fn words_and_more_descriptors_than_fit_into_one_message_arrive() {
    let (old, new) = pair();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"the same file").unwrap();
    let offer = || Word::Offer {
        memory: "text\n".repeat(100_000),
        queues: vec![vec![8472; 5]; 3],
        listeners: vec!["127.0.0.1:80".parse().unwrap()],
        watchdog: Some(30_000_000),
        process: 7,
    };
    let given = vec![file.as_fd(); CHUNK * 2 + 7];
    let (word, received) = std::thread::scope(|scope| {
        scope.spawn(|| old.say(&offer(), &given).unwrap());
        new.hear(SOON).unwrap()
    });
    assert_eq!(word, offer());
    assert_eq!(received.len(), given.len());
    for fd in received {
        let mut copy = fs::File::from(fd);
        copy.rewind().unwrap();
        assert_eq!(io::read_to_string(copy).unwrap(), "the same file");
    }
    old.say(&Word::Go, &[]).unwrap();
    new.wait_for(&Word::Go, SOON).unwrap();
}

#[test]
fn death_is_told_from_refusal_and_from_silence() {
    let (old, new) = pair();
    let why = "no".to_owned();
    old.say(&Word::Refused { why }, &[]).unwrap();
    let heard = new.hear(SOON);
    assert!(matches!(heard, Err(Silence::Refused(why)) if why == "no"));
    let heard = new.hear(Duration::from_millis(10));
    assert!(matches!(heard, Err(Silence::Unclear(why)) if why.to_string().contains("10 ms")));
    // Nor does it matter what the other has said and nobody has read.
    new.say(&Word::Ready, &[]).unwrap();
    drop(old);
    assert!(matches!(new.hear(SOON), Err(Silence::Dead)));
}

#[test]
fn a_half_said_word_is_death() {
    let (old, new) = pair();
    raw(&old, [100, 0], b"{\"Off");
    drop(old);
    assert!(matches!(new.hear(SOON), Err(Silence::Dead)));
}

#[test]
fn nonsense_is_refused_and_takes_no_memory() {
    for (lengths, text) in [
        ([u32::MAX, 0], &b""[..]),
        ([2, u32::MAX], b"{}"),
        ([4, 0], b"\"No\""),
        ([3, 0], b"\xff\xfe\xfd"),
        ([0, 0], b""),
        // A descriptor is promised, and something else comes.
        ([4, 1], b"\"Go\"x"),
    ] {
        let (old, new) = pair();
        raw(&old, lengths, text);
        let heard = new.hear(SOON);
        assert!(matches!(heard, Err(Silence::Unclear(_))), "{heard:?}");
    }
}

#[test]
fn what_a_newer_version_adds_is_passed_over() {
    let (old, new) = pair();
    let text = br#"{"Offer":{"memory":"","queues":[],"listeners":[],"watchdog":null,"process":7,"more":1}}"#;
    raw(&old, [text.len() as u32, 0], text);
    let (word, _) = new.hear(SOON).unwrap();
    assert!(matches!(word, Word::Offer { .. }));
}

#[test]
fn a_word_out_of_turn_is_not_taken_for_the_one_waited_for() {
    let (old, new) = pair();
    old.say(&Word::Over, &[]).unwrap();
    let heard = new.wait_for(&Word::Go, SOON);
    assert!(matches!(heard, Err(Silence::Unclear(_))), "{heard:?}");
}

#[test]
fn only_the_owner_may_knock_and_the_last_to_listen_is_heard() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("door");
    assert!(call(&path).unwrap().is_none(), "nobody has ever been there");
    let first = listen(&path).unwrap();
    let second = listen(&path).unwrap();
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let _caller = call(&path).unwrap().unwrap();
    first.set_nonblocking(true).unwrap();
    assert!(first.accept().is_err());
    assert!(second.accept().is_ok());
    drop(second);
    assert!(call(&path).unwrap().is_none(), "nobody is there any more");
}

#[test]
fn a_door_in_a_directory_of_everybody_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), Permissions::from_mode(0o777)).unwrap();
    let refused = listen(&directory.path().join("door")).unwrap_err();
    assert!(refused.to_string().contains("everybody"), "{refused}");
}
