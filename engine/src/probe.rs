//! Choosing how packets are moved.

use crate::capabilities::{IoKind, OpenTun};
use crate::config::{EngineConfig, IoChoice};
use crate::error::StartError;

/// The way to move packets, and why.
pub(crate) fn choose_io(
    config: &EngineConfig,
    _tun: &OpenTun,
) -> Result<(IoKind, String), StartError> {
    match config.io {
        IoChoice::SingleQueue => Ok((IoKind::SingleQueue, "asked for".to_owned())),
        IoChoice::UringMultishot | IoChoice::Uring => {
            Ok((IoKind::UringMultishot, "asked for".to_owned()))
        }
        IoChoice::UringOneshot => Ok((IoKind::UringOneshot, "asked for".to_owned())),
        _ => Ok((IoKind::Epoll, "asked for".to_owned())),
    }
}
