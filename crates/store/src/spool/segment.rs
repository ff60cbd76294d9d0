//! One file of the spool: contents behind each other, each with the BLAKE3 hash of what is in it.
//!
//! ```text
//! file  = "ORLSPL2\n" *frame
//! frame = hash (32) length (4) size (4) flows (4) packed (length)    integers are little-endian
//! ```
//! The hash is over all that follows it in the frame; `packed` is a zstd frame of `size` bytes, which brings
//! so many flows that are neither in the database nor in what was spooled before. Whoever
//! writes or reads a file holds a lock on it (flock), which the system takes back when a process ends:
//! what is not locked is finished.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use uuid::Uuid;

use crate::limits::ZSTD_LEVEL;

/// What each file begins with: the name of the format and its version.
const MAGIC: &[u8] = b"ORLSPL2\n";
const HASH_BYTES: usize = blake3::OUT_LEN;
const HEAD_BYTES: usize = HASH_BYTES + 12;

/// The extension of files that are written, or that wait.
pub(super) const SEGMENT: &str = "segment";
/// Of a file that is not locked yet.
const NEW: &str = "new";
/// Of a file that could not be read to its end.
pub(super) const DAMAGED: &str = "damaged";

/// A file that is being written; it is finished when this is dropped.
#[derive(Debug)]
pub(crate) struct SegmentWriter {
    file: File,
    path: PathBuf,
    bytes: u64,
}

/// A file that is being read.
#[derive(Debug)]
pub(crate) struct SegmentReader {
    file: BufReader<File>,
    path: PathBuf,
    /// Bytes that were not read yet.
    left: u64,
}

/// What comes next in a file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Content(Vec<u8>),
    /// That was all.
    End,
    /// From here on it is not what was written: changed, or never written to its end.
    Damage,
}

impl SegmentWriter {
    /// Begins a file in a folder, for the owner only. Their names are in the order of time.
    pub(crate) fn create(folder: &Path) -> io::Result<Self> {
        let name = folder.join(Uuid::now_v7().to_string());
        // Nobody who reads finds it before it is locked.
        let mut new = Self {
            path: name.with_extension(NEW),
            file: OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(name.with_extension(NEW))?,
            bytes: len(MAGIC),
        };
        let path = name.with_extension(SEGMENT);
        let begun = flock(&new.file, FlockOperation::NonBlockingLockExclusive)
            .map_err(io::Error::from)
            .and_then(|()| new.file.write_all(MAGIC))
            .and_then(|()| fs::rename(&new.path, &path));
        match begun {
            Ok(()) => Ok(Self { path, ..new }),
            Err(error) => {
                new.discard();
                Err(error)
            }
        }
    }

    /// Removes it, with what is in it.
    pub(crate) fn discard(self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!(%error, "a file of the spool stays");
        }
    }

    /// Writes a content, whole or not at all; a process that dies then leaves it behind.
    pub(crate) fn append(&mut self, content: &Packed) -> io::Result<()> {
        let end = self.bytes;
        if let Err(error) = self.file.write_all(&content.0) {
            // Half of it must not stand before what comes next.
            self.file.set_len(end)?;
            self.file.seek(SeekFrom::Start(end))?;
            return Err(error);
        }
        self.bytes += content.bytes();
        Ok(())
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// A content as it lies in a file.
#[derive(Debug)]
pub(crate) struct Packed(Vec<u8>);

impl Packed {
    /// Fails if it is larger than 4 GiB.
    pub(crate) fn new(content: &[u8], flows: u32) -> io::Result<Self> {
        let packed = zstd::bulk::compress(content, ZSTD_LEVEL)?;
        let number = |bytes: &[u8]| u32::try_from(bytes.len()).map_err(io::Error::other);
        let mut frame = vec![0; HASH_BYTES];
        for number in [number(&packed)?, number(content)?, flows] {
            frame.extend_from_slice(&number.to_le_bytes());
        }
        frame.extend_from_slice(&packed);
        if let Some((hash, hashed)) = frame.split_at_mut_checked(HASH_BYTES) {
            hash.copy_from_slice(blake3::hash(hashed).as_bytes());
        }
        Ok(Self(frame))
    }

    pub(crate) fn bytes(&self) -> u64 {
        len(&self.0)
    }
}

impl SegmentReader {
    /// Opens a file; `None` if another writes or reads it, or has removed it.
    pub(crate) fn open(path: &Path) -> io::Result<Option<Self>> {
        let Some(file) = lock(path)? else {
            return Ok(None);
        };
        Ok(Some(Self {
            left: file.metadata()?.len(),
            file: BufReader::new(file),
            path: path.to_owned(),
        }))
    }

    /// Reads on. What cannot be read is damage as well.
    pub(crate) fn next(&mut self) -> Next {
        self.read_frame().unwrap_or(Next::Damage)
    }

    fn read_frame(&mut self) -> io::Result<Next> {
        if self.file.stream_position()? == 0 && self.take(MAGIC.len())? != MAGIC {
            return Ok(Next::Damage);
        }
        if self.left == 0 {
            return Ok(Next::End);
        }
        let mut frame = self.take(HEAD_BYTES)?;
        let number = |index| usize::try_from(number_in(&frame, index)?).ok();
        let (Some(length), Some(size)) = (number(0), number(1)) else {
            return Ok(Next::Damage);
        };
        frame.append(&mut self.take(length)?);
        let Some((hash, hashed)) = frame.split_at_checked(HASH_BYTES) else {
            return Ok(Next::Damage);
        };
        if blake3::hash(hashed).as_bytes() != hash {
            return Ok(Next::Damage);
        }
        let packed = frame.get(HEAD_BYTES..).unwrap_or_default();
        zstd::bulk::decompress(packed, size).map(Next::Content)
    }

    fn take(&mut self, bytes: usize) -> io::Result<Vec<u8>> {
        let wanted = u64::try_from(bytes).unwrap_or(u64::MAX);
        // A length that is damaged must not take memory.
        self.left = self
            .left
            .checked_sub(wanted)
            .ok_or(ErrorKind::UnexpectedEof)?;
        let mut taken = vec![0; bytes];
        self.file.read_exact(&mut taken)?;
        Ok(taken)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes that were not read.
    pub(crate) fn left(&self) -> u64 {
        self.left
    }

    /// Removes the file: all of it is elsewhere now.
    pub(crate) fn remove(self) -> io::Result<()> {
        fs::remove_file(&self.path)
    }

    /// Keeps the file under another name, where nobody reads it again; answers that.
    pub(crate) fn set_aside(self) -> io::Result<PathBuf> {
        let aside = self.path.with_extension(DAMAGED);
        fs::rename(&self.path, &aside)?;
        Ok(aside)
    }
}

/// How many flows a file brings, by what stands before its contents: these are not looked at, and the
/// file may be being written.
pub(super) fn count_flows(path: &Path) -> io::Result<u64> {
    let file = File::open(path)?;
    let bytes = file.metadata()?.len();
    let mut file = BufReader::new(file);
    let mut magic = [0; MAGIC.len()];
    let mut head = [0; HEAD_BYTES];
    let mut flows = 0;
    file.read_exact(&mut magic)?;
    while magic == *MAGIC && file.read_exact(&mut head).is_ok() {
        file.seek_relative(number_in(&head, 0).unwrap_or_default().into())?;
        if file.stream_position()? > bytes {
            break;
        }
        flows += u64::from(number_in(&head, 2).unwrap_or_default());
    }
    Ok(flows)
}

/// A number of those that stand behind the hash of a frame.
fn number_in(head: &[u8], index: usize) -> Option<u32> {
    let at = HASH_BYTES + 4 * index;
    let bytes = head.get(at..at + 4)?.first_chunk()?;
    Some(u32::from_le_bytes(*bytes))
}

/// Removes a file that its writer did not come to lock, because it died.
pub(super) fn remove_abandoned(path: &Path) -> io::Result<()> {
    match path.extension().is_some_and(|found| found == NEW) && lock(path)?.is_some() {
        true => fs::remove_file(path),
        false => Ok(()),
    }
}

/// Opens a file that nobody else holds and that is still there.
fn lock(path: &Path) -> io::Result<Option<File>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let is_locked = flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok();
    Ok((is_locked && path.try_exists()?).then_some(file))
}

fn len(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(folder: &Path, contents: &[&[u8]]) -> (PathBuf, SegmentWriter) {
        let mut writer = SegmentWriter::create(folder).unwrap();
        for content in contents {
            writer.append(&Packed::new(content, 3).unwrap()).unwrap();
        }
        let entries = fs::read_dir(folder).unwrap();
        let path = entries.last().unwrap().unwrap().path();
        assert_eq!(fs::metadata(&path).unwrap().len(), writer.bytes());
        (path, writer)
    }

    /// What is read before the end or the damage, and which of them it is.
    fn read(path: &Path) -> (Vec<Vec<u8>>, Next) {
        let mut reader = SegmentReader::open(path).unwrap().unwrap();
        let mut contents = Vec::new();
        loop {
            match reader.next() {
                Next::Content(content) => contents.push(content),
                last => return (contents, last),
            }
        }
    }

    #[test]
    fn a_finished_file_is_read_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let large = vec![7; 1_000_000];
        let contents: [&[u8]; 3] = [b"one", &large, b""];
        let (path, writer) = write(folder.path(), &contents);
        assert!(SegmentReader::open(&path).unwrap().is_none(), "it is held");
        assert_eq!(count_flows(&path).unwrap(), 9, "its flows can be counted");
        drop(writer);
        assert_eq!(
            read(&path),
            (contents.map(<[u8]>::to_vec).into(), Next::End)
        );
    }

    #[test]
    fn a_file_is_read_up_to_where_it_was_cut_or_changed() {
        let folder = tempfile::tempdir().unwrap();
        let (path, writer) = write(folder.path(), &[b"one", b"two"]);
        let end = writer.bytes();
        drop(writer);
        let whole = fs::read(&path).unwrap();
        let begin_of_two = (len(MAGIC) + end) / 2;
        for cut in 0..end {
            fs::write(&path, &whole[..usize::try_from(cut).unwrap()]).unwrap();
            let (contents, last) = read(&path);
            assert_eq!(contents.len(), usize::from(cut >= begin_of_two), "{cut}");
            let flows = count_flows(&path).unwrap_or_default();
            assert_eq!(flows, 3 * contents.len() as u64, "{cut}");
            let is_boundary = cut == len(MAGIC) || cut == begin_of_two;
            assert_eq!(last == Next::End, is_boundary, "{cut}");
        }
        for changed in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[changed] ^= 0x80;
            fs::write(&path, bytes).unwrap();
            let _any_number = count_flows(&path);
            let (contents, last) = read(&path);
            let before = match len(&whole[..changed]) {
                at if at < len(MAGIC) => 0,
                at => usize::from(at >= begin_of_two),
            };
            assert_eq!((contents.len(), last), (before, Next::Damage), "{changed}");
        }
    }

    #[test]
    fn what_was_never_locked_is_removed_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let abandoned = folder.path().join("a.new");
        let other = folder.path().join("b.segment");
        for path in [&abandoned, &other] {
            fs::write(path, "").unwrap();
            remove_abandoned(path).unwrap();
        }
        assert!(!abandoned.exists() && other.exists());
    }
}
