//! Which version of etcd's API to speak: the one told, or the one the cluster's records are in.
//!
//! | records in version 2 | in version 3 | spoken |
//! | --- | --- | --- |
//! | leases | none | 2 |
//! | any | leases | 3, as a cluster that has been joined by a bridge has them in both |
//! | a config alone | nothing | 2 |
//! | any | a config alone | 3 |
//! | nothing | nothing | nothing yet: asked again |
//!
//! A server that does not serve one of them has nothing in it. One that does not answer decides nothing.

use super::v2::EtcdV2;
use super::v3::EtcdV3;
use super::{EtcdApi, EtcdOptions, Found};
use crate::registry::{News, Registry, RegistryError, Steward, Watch};
use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;
use tracing::info;

/// Pause between questions while nothing is found.
const RETRY: Duration = Duration::from_secs(1);

/// A version of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    V2,
    V3,
}

/// A choice that is made, or one that etcd will make.
#[derive(Clone, Debug)]
pub(super) enum Choice {
    V2(EtcdV2),
    V3(EtcdV3),
    Open(EtcdV2, EtcdV3, Found),
}

/// How much of flannel's there is in one version.
#[derive(Clone, Copy, Debug, Default)]
struct Contents {
    leases: usize,
    config: bool,
}

impl Choice {
    pub(super) fn open(options: EtcdOptions) -> io::Result<Self> {
        Ok(match options.api.clone() {
            EtcdApi::V2 => Self::V2(EtcdV2::open(options)?),
            EtcdApi::V3 => Self::V3(EtcdV3::open(options)?),
            EtcdApi::Auto(found) => match found.0.get() {
                Some(Version::V2) => Self::V2(EtcdV2::open(options)?),
                Some(Version::V3) => Self::V3(EtcdV3::open(options)?),
                None => Self::Open(
                    EtcdV2::open(options.clone())?,
                    EtcdV3::open(options)?,
                    found,
                ),
            },
        })
    }

    pub(super) fn lease_time(&self) -> Duration {
        match self {
            Self::V2(store) | Self::Open(store, ..) => store.lease_time(),
            Self::V3(store) => store.lease_time(),
        }
    }

    /// The version spoken, found out where that is still to be done.
    pub(super) fn made(&self) -> Result<&dyn Steward, RegistryError> {
        let (v2, v3, found) = match self {
            Self::V2(store) => return Ok(store),
            Self::V3(store) => return Ok(store),
            Self::Open(v2, v3, found) => (v2, v3, found),
        };
        let version = match found.0.get() {
            Some(version) => *version,
            None => {
                let version = find(v2, v3)?;
                *found.0.get_or_init(|| version)
            }
        };
        Ok(match version {
            Version::V2 => v2,
            Version::V3 => v3,
        })
    }

    /// Begins to watch, also where it is still to be found out what.
    pub(super) fn watch(
        &self,
        mut news: Box<dyn FnMut(News) + Send>,
    ) -> Result<Watch, RegistryError> {
        if !matches!(self, Self::Open(_, _, found) if found.0.get().is_none()) {
            return self.made()?.watch(news);
        }
        let choice = self.clone();
        let (stop, stopped) = sync_channel(1);
        let run = move || {
            let Some(store) = choice.await_choice(&mut news, &stopped) else {
                return;
            };
            match store.watch(news) {
                Ok(watch) => {
                    // Until the other end is dropped.
                    let _ = stopped.recv();
                    drop(watch);
                }
                Err(error) => tracing::error!("cannot follow the registry: {error}"),
            }
        };
        let thread = thread::Builder::new().name("etcd-api".to_owned());
        let thread = thread.spawn(run);
        let thread = thread.map_err(|error| RegistryError::Unavailable(error.to_string()))?;
        Ok(Watch::new(thread, move || drop(stop)))
    }

    /// Asks until it is known what to speak; `None` when stopped meanwhile.
    fn await_choice(
        &self,
        news: &mut Box<dyn FnMut(News) + Send>,
        stopped: &Receiver<()>,
    ) -> Option<&dyn Steward> {
        let mut lost = false;
        loop {
            match self.made() {
                Ok(store) => {
                    if lost {
                        news(News::Regained);
                    }
                    return Some(store);
                }
                Err(_) if lost => {}
                Err(error) => {
                    lost = true;
                    news(News::Lost(error.to_string()));
                }
            }
            if stopped.recv_timeout(RETRY) != Err(RecvTimeoutError::Timeout) {
                return None;
            }
        }
    }
}

/// Asks both, and says what was found.
fn find(v2: &EtcdV2, v3: &EtcdV3) -> Result<Version, RegistryError> {
    let old = v2
        .contents()?
        .map(|(leases, config)| Contents { leases, config });
    let new = match v3.contents() {
        Ok((leases, config)) => Contents { leases, config },
        // A server of before version 3 has no words for that.
        Err(_) if v2.is_before_v3() => Contents::default(),
        Err(error) => return Err(error),
    };
    let told = |contents: Contents| {
        let config = if contents.config {
            "a config"
        } else {
            "no config"
        };
        format!("{} leases and {config}", contents.leases)
    };
    let served = old.map_or_else(
        || "is not served".to_owned(),
        |old| format!("has {}", told(old)),
    );
    let Some(version) = choose(old.unwrap_or_default(), new) else {
        return Err(RegistryError::NoConfig(format!(
            "There is none in either version of etcd's API (version 2 {served}). Write one as etcdctl does it in the version of your cluster, or choose by --etcd-api"
        )));
    };
    let number = match version {
        Version::V2 => 2,
        Version::V3 => 3,
    };
    info!(
        "using version {number} of etcd's API: version 2 {served}, version 3 has {}",
        told(new)
    );
    Ok(version)
}

fn choose(old: Contents, new: Contents) -> Option<Version> {
    if new.leases > 0 {
        return Some(Version::V3);
    }
    if old.leases > 0 {
        return Some(Version::V2);
    }
    match (old.config, new.config) {
        (_, true) => Some(Version::V3),
        (true, false) => Some(Version::V2),
        (false, false) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents(leases: usize, config: bool) -> Contents {
        Contents { leases, config }
    }

    #[test]
    fn records_decide_and_where_there_are_none_the_config() {
        let (none, config, leases) = (contents(0, false), contents(0, true), contents(2, true));
        let cases = [
            (leases, none, Some(Version::V2)),
            (leases, config, Some(Version::V2)),
            (leases, leases, Some(Version::V3)),
            (config, leases, Some(Version::V3)),
            (config, none, Some(Version::V2)),
            (config, config, Some(Version::V3)),
            (none, config, Some(Version::V3)),
            (none, none, None),
        ];
        for (old, new, chosen) in cases {
            assert_eq!(choose(old, new), chosen, "{old:?} {new:?}");
        }
    }
}
