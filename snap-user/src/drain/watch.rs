//! What the copies may take: past it, the snapshot gives way, and not the processes.

use std::sync::Arc;
use std::time::Duration;

use super::DrainError;
use crate::device::Snapshot;
use crate::image::PAGE;
use crate::stream::Cancel;

/// How often to look. A look goes through all pages, for some nanoseconds each.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Returns when `snapshot` holds more than `limit` bytes for itself alone, and has stopped `stop` then. Never without a limit.
pub(super) async fn memory(snapshot: Arc<Snapshot>, limit: Option<u64>, stop: Cancel) -> DrainError {
    let Some(limit) = limit else {
        return std::future::pending().await;
    };
    loop {
        let looking = Arc::clone(&snapshot);
        let looked = tokio::task::spawn_blocking(move || looking.look()).await;
        let held = match looked {
            Ok(Ok(look)) => look.sole * PAGE,
            Ok(Err(error)) => {
                stop.cancel();
                return DrainError::Read(error);
            }
            Err(error) => {
                stop.cancel();
                return DrainError::Thread(error);
            }
        };
        if held > limit {
            stop.cancel();
            return DrainError::Memory { held, limit };
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
