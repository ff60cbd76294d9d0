//! Reads what `/proc` says of a process (proc(5)). Everything may vanish at any moment, and what
//! belongs to others may be hidden; both are `None` here.

use std::ffi::CStr;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::mem::MaybeUninit;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::str::FromStr;

use rustix::buffer::spare_capacity;
use rustix::fs::{CWD, Mode, OFlags, RawDir};
use rustix::io::Errno;
use rustix::path::{Arg, DecInt};

use crate::limits::{
    PROCESS_ARGUMENTS_BYTES_MAX, PROCESS_DESCRIPTORS_AROUND, PROCESS_DESCRIPTORS_MAX,
    PROCESS_DESCRIPTORS_NEAR, PROCESS_FILE_BYTES_MAX, PROCESSES_MAX,
};

/// Length of the tick in which the kernel tells times to programs: a hundredth of a second on
/// every architecture that Rust builds for.
pub(super) const TICK_MICROS: i64 = 10_000;

/// Room for what the kernel lists of a folder at once.
const FOLDER_BYTES: usize = 8 * 1024;
/// What is read of a file at once.
const READ_BYTES: usize = 2 * 1024;
/// Room for the name of a socket; of the longer names of files the start is enough.
const LINK_BYTES: usize = 40;

/// What `/proc/PID/stat` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stat {
    /// The name that the kernel keeps: at most 15 bytes, and the process can change it.
    pub(super) name: String,
    /// 0 for the first process of a pid namespace.
    pub(super) parent: u32,
    /// In ticks since the system started.
    pub(super) start: u64,
    /// Where its arguments lie in its memory, which is elsewhere for each program that it begins; 0 if that is
    /// hidden.
    arguments_at: u64,
}

impl Stat {
    /// Whether it is of the same process with the same program and parent, as far as can be told.
    pub(super) fn is_same_program(&self, other: &Self) -> bool {
        self == other && self.arguments_at != 0
    }
}

/// Whether a process holds a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holds {
    /// As this descriptor.
    Yes(u32),
    No,
    /// We may not see.
    Hidden,
}

/// All processes, in the order of their numbers.
pub(super) fn processes() -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    let mut pids: Vec<u32> = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .take(PROCESSES_MAX)
        .collect();
    pids.sort_unstable();
    pids
}

/// Whether one of the descriptors of a process is a link to this, as `socket:[4711]`. The first
/// three are not looked at.
pub(super) fn holds(pid: u32, link: &[u8]) -> Holds {
    match Descriptors::open(pid).and_then(|descriptors| descriptors.find(link)) {
        Ok(Some(descriptor)) => Holds::Yes(descriptor),
        Err(Errno::ACCESS | Errno::PERM) => Holds::Hidden,
        // It ended meanwhile.
        Ok(None) | Err(_) => Holds::No,
    }
}

/// Whether one of the first three descriptors is such a link; see
/// [`Descriptors::has_as_standard`].
pub(super) fn holds_as_standard(pid: u32, link: &[u8]) -> bool {
    Descriptors::open(pid).is_ok_and(|descriptors| descriptors.has_as_standard(link))
}

/// The folder in which the descriptors of a process are links to what is open.
///
/// By the calls of the system rather than `std::fs`: this is where the time of a lookup goes, and
/// a path that begins at the root is walked anew for each descriptor.
#[derive(Debug)]
pub(super) struct Descriptors {
    folder: OwnedFd,
}

impl Descriptors {
    pub(super) fn open(pid: u32) -> Result<Self, Errno> {
        let folder = open_folder(CWD, format!("/proc/{pid}/fd"))?;
        Ok(Self { folder })
    }

    /// Which of all but the first three is this link.
    pub(super) fn find(&self, link: &[u8]) -> Result<Option<u32>, Errno> {
        let mut room = [MaybeUninit::uninit(); FOLDER_BYTES];
        let mut entries = RawDir::new(&self.folder, &mut room);
        let mut seen = 0;
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b".." | b"0" | b"1" | b"2") {
                continue;
            }
            if self.is_link(name, link) {
                return Ok(name.to_str().ok().and_then(|name| name.parse().ok()));
            }
            seen += 1;
            if seen >= PROCESS_DESCRIPTORS_MAX {
                break;
            }
        }
        Ok(None)
    }

    /// Which of the few next to this one is this link. A new one is the lowest that is free: the next, or one
    /// that was closed a moment ago.
    pub(super) fn find_near(&self, latest: u32, link: &[u8]) -> Option<u32> {
        self.find_beside(latest, 0..PROCESS_DESCRIPTORS_NEAR, link)
    }

    /// Which of the many around this one is this link, but for those next to it. Of a process that opens
    /// hundreds of connections at once the next are looked for in another order; its whole folder may have
    /// thousands to go through.
    pub(super) fn find_around(&self, latest: u32, link: &[u8]) -> Option<u32> {
        let steps = PROCESS_DESCRIPTORS_NEAR..PROCESS_DESCRIPTORS_AROUND;
        self.find_beside(latest, steps, link)
    }

    fn find_beside(&self, latest: u32, mut steps: Range<u32>, link: &[u8]) -> Option<u32> {
        steps.find_map(|step| {
            let sides = [latest.checked_add(step), latest.checked_sub(step + 1)];
            let mut sides = sides.into_iter().flatten();
            sides.find(|descriptor| self.has(*descriptor, link))
        })
    }

    /// Whether one of the first three is this link. Only programs that were made for inetd(8) and its kind
    /// have connections there, and all have these descriptors: looking at them apart spares a search three
    /// links of every process.
    pub(super) fn has_as_standard(&self, link: &[u8]) -> bool {
        (0..3).any(|descriptor| self.has(descriptor, link))
    }

    pub(super) fn has(&self, descriptor: u32, link: &[u8]) -> bool {
        self.is_link(DecInt::new(descriptor).as_c_str(), link)
    }

    fn is_link(&self, name: &CStr, link: &[u8]) -> bool {
        let mut target = [0; LINK_BYTES];
        // It may have been closed meanwhile.
        let length = rustix::fs::readlinkat_raw(&self.folder, name, &mut target).unwrap_or(0);
        target.get(..length) == Some(link)
    }
}

/// A process that is kept in sight. What is open of it is of this very process: there is nothing to be read once
/// it ended, whoever has its number then.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) pid: u32,
    pub(super) descriptors: Descriptors,
    stat: OwnedFd,
}

impl Kept {
    pub(super) fn open(pid: u32) -> Result<Self, Errno> {
        let process = open_folder(CWD, format!("/proc/{pid}"))?;
        let folder = open_folder(&process, "fd")?;
        // That of its first thread says the same of what is read here. For the other the kernel adds up the
        // times of all threads, of which there may be hundreds.
        let stat = format!("task/{pid}/stat");
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        Ok(Self {
            pid,
            descriptors: Descriptors { folder },
            stat: rustix::fs::openat(&process, stat, flags, Mode::empty())?,
        })
    }

    #[cfg(test)]
    pub(super) fn with_number(self, pid: u32) -> Self {
        Self { pid, ..self }
    }

    /// `None` once it ended.
    pub(super) fn stat(&self) -> Option<Stat> {
        // The kernel writes the whole of it for one read, some hundred bytes.
        let mut room = [MaybeUninit::uninit(); READ_BYTES];
        let (text, _) = rustix::io::pread(&self.stat, &mut room, 0).ok()?;
        parse_stat(text)
    }
}

fn open_folder(at: impl AsFd, path: impl Arg) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(at, path, flags, Mode::empty())
}

pub(super) fn stat(pid: u32) -> Option<Stat> {
    let text = read_bytes(format!("/proc/{pid}/stat"), PROCESS_FILE_BYTES_MAX)?;
    parse_stat(&text)
}

pub(super) fn parse_stat(text: &[u8]) -> Option<Stat> {
    // The second field, the name of the program, may hold anything, a parenthesis too.
    let name_end = memchr::memrchr(b')', text)?;
    let (start, fields) = text.split_at_checked(name_end)?;
    let name_start = memchr::memchr(b'(', start)?;
    let name = start.get(name_start + 1..)?;
    // The first of them is the parenthesis.
    let mut fields = fields.split(|byte| *byte == b' ');
    Some(Stat {
        name: String::from_utf8_lossy(name).into_owned(),
        // Fields 4, 22 and 48.
        parent: number(fields.nth(2)?)?,
        start: number(fields.nth(17)?)?,
        arguments_at: fields.nth(25).and_then(number).unwrap_or(0),
    })
}

fn number<N: FromStr>(digits: &[u8]) -> Option<N> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// The real, effective, saved and file system user.
pub(super) fn uids(pid: u32) -> Option<[u32; 4]> {
    parse_uids(&read(
        format!("/proc/{pid}/status"),
        PROCESS_FILE_BYTES_MAX,
    )?)
}

fn parse_uids(text: &str) -> Option<[u32; 4]> {
    let line = text.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    let mut uids = line.split_ascii_whitespace().map(str::parse);
    let mut next = || uids.next()?.ok();
    Some([next()?, next()?, next()?, next()?])
}

/// The path of the program.
pub(super) fn exe_path(pid: u32) -> Option<String> {
    let path = std::fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    let path = path.to_string_lossy();
    let path = path.strip_suffix(" (deleted)").unwrap_or(&path);
    Some(path.to_owned())
}

pub(super) fn exe_name(exe_path: Option<&str>, stat: &Stat) -> String {
    let name = exe_path.and_then(|path| Path::new(path).file_name());
    name.map_or_else(
        || stat.name.clone(),
        |name| name.to_string_lossy().into_owned(),
    )
}

/// The arguments, and whether there are more.
pub(super) fn command_line(pid: u32) -> (Vec<String>, bool) {
    let path = format!("/proc/{pid}/cmdline");
    // One byte more tells whether there are more.
    let bytes = read_bytes(path, PROCESS_ARGUMENTS_BYTES_MAX + 1).unwrap_or_default();
    split_arguments(&bytes)
}

fn split_arguments(bytes: &[u8]) -> (Vec<String>, bool) {
    let cut = bytes.len() > PROCESS_ARGUMENTS_BYTES_MAX;
    let kept = bytes.get(..PROCESS_ARGUMENTS_BYTES_MAX).unwrap_or(bytes);
    let kept = kept.strip_suffix(&[0]).unwrap_or(kept);
    if kept.is_empty() {
        return (Vec::new(), cut);
    }
    let arguments = kept.split(|byte| *byte == 0);
    let arguments = arguments.map(|argument| String::from_utf8_lossy(argument).into_owned());
    (arguments.collect(), cut)
}

pub(super) fn cgroup(pid: u32) -> Option<String> {
    read(format!("/proc/{pid}/cgroup"), PROCESS_FILE_BYTES_MAX)
}

/// How long the system has been running.
pub(super) fn uptime_micros() -> Option<i64> {
    parse_uptime(&read("/proc/uptime", PROCESS_FILE_BYTES_MAX)?)
}

/// Seconds with two digits after the point.
fn parse_uptime(text: &str) -> Option<i64> {
    let (seconds, hundredths) = text.split_ascii_whitespace().next()?.split_once('.')?;
    let hundredths: i64 = hundredths.get(..2)?.parse().ok()?;
    let seconds: i64 = seconds.parse().ok()?;
    seconds
        .checked_mul(100)?
        .checked_add(hundredths)?
        .checked_mul(10_000)
}

/// The lines of a file that may be long; none if it cannot be read.
pub(super) fn lines(path: &str, bytes_max: u64) -> impl Iterator<Item = String> {
    let file = File::open(path).ok();
    let lines = file.map(|file| BufReader::new(file.take(bytes_max)).lines());
    lines.into_iter().flatten().map_while(Result::ok)
}

fn read(path: impl AsRef<Path>, bytes_max: usize) -> Option<String> {
    let bytes = read_bytes(path, bytes_max)?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// Most files fit into the first read, which for these files is much of what reading them costs.
fn read_bytes(path: impl AsRef<Path>, bytes_max: usize) -> Option<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let file = rustix::fs::open(path.as_ref(), flags, Mode::empty()).ok()?;
    let mut bytes = Vec::new();
    while bytes.len() < bytes_max {
        bytes.reserve(READ_BYTES.min(bytes_max - bytes.len()));
        if rustix::io::read(&file, spare_capacity(&mut bytes)).ok()? == 0 {
            break;
        }
    }
    bytes.truncate(bytes_max);
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_stat_whose_name_is_a_trap() {
        let text = "42 (a) S 1 (b c)) R 7 42 42 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 98765 1 2";
        let expected = Stat {
            name: "a) S 1 (b c)".to_owned(),
            parent: 7,
            start: 98765,
            arguments_at: 0,
        };
        assert_eq!(parse_stat(text.as_bytes()), Some(expected));
        for broken in ["", "42 (a", "42 (a) R 7", "42 (a) R x 42 42"] {
            assert_eq!(parse_stat(broken.as_bytes()), None, "{broken}");
        }
    }

    #[test]
    fn reads_users_and_uptime() {
        let text = "Name:\tx\nUid:\t1000\t1001\t1002\t1003\nGid:\t1\t1\t1\t1\n";
        assert_eq!(parse_uids(text), Some([1000, 1001, 1002, 1003]));
        assert_eq!(parse_uids("Uid:\t1000\t1001\n"), None);
        assert_eq!(parse_uptime("12.34 99.00\n"), Some(12_340_000));
        assert_eq!(parse_uptime("12\n"), None);
    }

    #[test]
    fn splits_arguments() {
        let check = |bytes: &[u8], expected: &[&str]| {
            assert_eq!(split_arguments(bytes).0, expected);
        };
        check(b"", &[]);
        check(b"a\0", &["a"]);
        check(b"a\0\0b c\0", &["a", "", "b c"]);
        check(b"title without an end", &["title without an end"]);
        check(b"\xff\0", &["\u{fffd}"]);
    }

    #[test]
    fn cuts_long_arguments() {
        let exact = vec![b'a'; PROCESS_ARGUMENTS_BYTES_MAX];
        assert!(!split_arguments(&exact).1);
        let (arguments, cut) = split_arguments(&[exact.as_slice(), b"b"].concat());
        assert!(cut);
        assert_eq!(arguments.concat().len(), PROCESS_ARGUMENTS_BYTES_MAX);
    }
}
