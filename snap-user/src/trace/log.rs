//! What the BPF programs say (`aya_log_ebpf`), one line each on stderr.

/// Prints records as the controller prints its own messages.
pub(super) struct Stderr;

impl log::Log for Stderr {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        tell!("tracing: {}", record.args());
    }

    fn flush(&self) {}
}
