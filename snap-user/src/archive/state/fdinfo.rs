//! What `/proc/PID/fdinfo` says of event files, taken apart. Words that are not understood become nothing, not an error: the text is the
//! kernel's, but it may be another kernel's.

use crate::archive::process::{Details, EpollTarget, InotifyWatch};

/// The value of a line.
fn line<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines()
        .find_map(|line| line.strip_prefix(name))
        .map(str::trim)
}

/// The word behind a name, on one line.
fn word<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let rest = line.split_once(name)?.1;
    rest.split_whitespace().next()
}

fn hexadecimal(text: &str) -> Option<u64> {
    u64::from_str_radix(text, 16).ok()
}

fn small(text: &str) -> Option<u32> {
    u32::from_str_radix(text, 16).ok()
}

/// `(seconds, nanoseconds)`.
fn nanoseconds(text: &str) -> Option<u64> {
    let (seconds, rest) = text.strip_prefix('(')?.strip_suffix(')')?.split_once(", ")?;
    seconds
        .parse::<u64>()
        .ok()?
        .checked_mul(1_000_000_000)?
        .checked_add(rest.parse().ok()?)
}

/// Of an eventfd.
pub(super) fn eventfd(text: &str) -> Option<Details> {
    Some(Details::Eventfd {
        count: hexadecimal(line(text, "eventfd-count:")?)?,
        semaphore: line(text, "eventfd-semaphore:").map(|text| text != "0"),
    })
}

/// Of a timerfd.
pub(super) fn timerfd(text: &str) -> Option<Details> {
    Some(Details::Timerfd {
        clock: line(text, "clockid:")?.parse().ok()?,
        ticks: line(text, "ticks:")?.parse().ok()?,
        value_ns: nanoseconds(line(text, "it_value:")?)?,
        interval_ns: nanoseconds(line(text, "it_interval:")?)?,
    })
}

/// Of a signalfd.
pub(super) fn signalfd(text: &str) -> Option<Details> {
    Some(Details::Signalfd {
        mask: hexadecimal(line(text, "sigmask:")?)?,
    })
}

/// Of an epoll instance.
pub(super) fn epoll(text: &str) -> Details {
    let entry = |line: &str| {
        Some(EpollTarget {
            fd: word(line, "tfd:")?.parse().ok()?,
            events: small(word(line, "events:")?)?,
            data: hexadecimal(word(line, "data:")?)?,
        })
    };
    Details::Epoll {
        targets: text.lines().filter_map(entry).collect(),
    }
}

/// Of an inotify instance. Devices are as the kernel has them: 20 bits of minor number.
pub(super) fn inotify(text: &str) -> Details {
    let watch = |line: &str| {
        let device = small(word(line, "sdev:")?)?;
        Some(InotifyWatch {
            wd: small(word(line, "wd:")?)?.cast_signed(),
            mask: small(word(line, " mask:")?)?,
            inode: hexadecimal(word(line, "ino:")?)?,
            device: format!("{}:{}", device >> 20, device & 0xf_ffff),
        })
    };
    Details::Inotify {
        watches: text
            .lines()
            .filter(|line| line.starts_with("inotify "))
            .filter_map(watch)
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_files_are_taken_apart() {
        assert_eq!(
            eventfd("eventfd-count:               29\neventfd-id: 5\neventfd-semaphore: 1\n"),
            Some(Details::Eventfd {
                count: 41,
                semaphore: Some(true)
            })
        );
        assert_eq!(
            eventfd("eventfd-count:               29\neventfd-id: 5\n"),
            Some(Details::Eventfd {
                count: 41,
                semaphore: None
            })
        );
        let text = "clockid: 1\nticks: 2\nsettime flags: 00\nit_value: (3, 4)\nit_interval: (0, 500)\n";
        assert_eq!(
            timerfd(text),
            Some(Details::Timerfd {
                clock: 1,
                ticks: 2,
                value_ns: 3_000_000_004,
                interval_ns: 500
            })
        );
        assert_eq!(
            signalfd("sigmask:\t0000001000000200\n"),
            Some(Details::Signalfd { mask: 0x10_0000_0200 })
        );
    }

    #[test]
    fn entries_are_taken_apart() {
        let text = "tfd:       12 events: 80000019 data:               4d  pos:0 ino:9 sdev:f\n";
        assert_eq!(
            epoll(text),
            Details::Epoll {
                targets: vec![EpollTarget {
                    fd: 12,
                    events: 0x8000_0019,
                    data: 77
                }]
            }
        );
        let text = "inotify wd:1 ino:ab sdev:10300001 mask:104 ignored_mask:0 fhandle-bytes:8 fhandle-type:1 f_handle:cd\n";
        assert_eq!(
            inotify(text),
            Details::Inotify {
                watches: vec![InotifyWatch {
                    wd: 1,
                    mask: 0x104,
                    inode: 0xab,
                    device: "259:1".to_owned()
                }]
            }
        );
    }

    #[test]
    fn nonsense_is_nothing() {
        for text in [
            "",
            "eventfd-count:",
            "it_value: (",
            "clockid: x\nticks:",
            "sigmask: zz",
        ] {
            assert_eq!(eventfd(text), None);
            assert_eq!(timerfd(text), None);
            assert_eq!(signalfd(text), None);
        }
        let huge = "clockid: 1\nticks: 2\nit_value: (99999999999999999999, 4)\nit_interval: (18446744073709551615, 1)\n";
        assert_eq!(timerfd(huge), None);
        assert_eq!(
            epoll("tfd:  x events: 1 data: 1"),
            Details::Epoll { targets: vec![] }
        );
        assert_eq!(inotify("inotify wd:"), Details::Inotify { watches: vec![] });
    }
}
