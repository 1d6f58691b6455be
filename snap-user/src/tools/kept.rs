//! What is kept of an image while it is read: no more than so much, however much there is.

use super::ToolError;

/// All together: states, and what the heads of cores say. Tens of thousands of processes have less.
const MOST_BYTES: u64 = 2 << 30;

/// How much is kept of an image.
#[derive(Debug)]
pub struct Kept {
    image: String,
    bytes: u64,
}

impl Kept {
    /// Nothing yet of what errors call `image`.
    #[must_use]
    pub fn of(image: &str) -> Self {
        Self {
            image: image.to_owned(),
            bytes: 0,
        }
    }

    /// Accounts for `count` times `bytes` more.
    ///
    /// # Errors
    ///
    /// When that is too much.
    pub fn add(&mut self, count: usize, bytes: usize) -> Result<(), ToolError> {
        let more = (count as u64).saturating_mul(bytes as u64);
        self.bytes = self.bytes.saturating_add(more);
        if self.bytes > MOST_BYTES {
            return Err(ToolError::TooMuch {
                image: self.image.clone(),
                limit: MOST_BYTES,
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Kept, ToolError};

    #[test]
    fn many_states_are_too_much_where_each_is_not() {
        let mut kept = Kept::of("a.tar");
        for _ in 0..8 {
            kept.add(1, 256 << 20).unwrap();
        }
        let error = kept.add(1, 1).unwrap_err();
        assert!(matches!(error, ToolError::TooMuch { .. }), "{error}");
        assert!(Kept::of("a.tar").add(usize::MAX, usize::MAX).is_err());
    }
}
