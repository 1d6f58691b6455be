//! What the tests in the guest share.
