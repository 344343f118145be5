//! A part of the shelf that gets no more: in memory until it is written, then in a file, sorted by session.

use std::{
    fs::{self, File},
    hash::{BuildHasher as _, RandomState},
    io::{self, BufWriter, Write as _},
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::Path,
};

use bytes::Bytes;
use rustix::fs::StatVfs;

use super::table::{self, Table};
use crate::event::Event;

/// A part in so few bytes is not worth a file.
const SMALL: u64 = if cfg!(test) { 100 } else { 256 << 10 };

/// The number of a file system in memory (`TMPFS_MAGIC` of Linux).
#[cfg(target_os = "linux")]
const TMPFS: rustix::fs::FsWord = 0x0102_1994;

/// Sessions by a number each: keyed by chance, so that nobody can choose ids that fall together.
#[derive(Default)]
pub(super) struct Hasher(RandomState);

impl Hasher {
    pub(super) fn of(&self, session: &str) -> u64 {
        self.0.hash_one(session)
    }
}

/// Everything between two sequences.
pub(super) enum Part {
    Table(Table),
    Sorted(Sorted),
}

/// A part in a file: the events of one session, then those of the next.
pub(super) struct Sorted {
    floor: u64,
    upto: u64,
    file: File,
    bytes: u64,
    /// By hash: where the session's events begin, and how many bytes they are.
    index: Box<[(u64, u32, u32)]>,
}

impl Part {
    /// It knows everything behind this sequence
    pub(super) const fn floor(&self) -> u64 {
        match self {
            Self::Table(table) => table.floor(),
            Self::Sorted(sorted) => sorted.floor,
        }
    }

    /// and up to this one.
    pub(super) const fn upto(&self) -> u64 {
        match self {
            Self::Table(table) => table.upto(),
            Self::Sorted(sorted) => sorted.upto,
        }
    }

    pub(super) const fn bytes(&self) -> u64 {
        match self {
            Self::Table(table) => table.bytes(),
            Self::Sorted(sorted) => sorted.bytes,
        }
    }

    /// Bytes of a session in it.
    pub(super) fn bytes_of(&self, hash: u64) -> u64 {
        match self {
            Self::Table(table) => table.bytes_of(hash),
            Self::Sorted(sorted) => sorted.place(hash).map_or(0, |(_, len)| len.into()),
        }
    }

    /// A session's events, in order; perhaps with those of another one of the same hash.
    pub(super) fn of_session(&self, hash: u64) -> io::Result<Vec<Event>> {
        match self {
            Self::Table(table) => Ok(table.of_session(hash)),
            Self::Sorted(sorted) => sorted.of_session(hash),
        }
    }

    /// The part as a file without a name in `folder`, on whose disk `spare` bytes stay free; `None` where it is one, or too
    /// small to be one.
    pub(super) fn write(&self, folder: &Path, spare: u64) -> io::Result<Option<Self>> {
        match self {
            Self::Table(table) if table.bytes() > SMALL => {
                write(table, nameless(folder, spare)?).map(Self::Sorted).map(Some)
            }
            _ => Ok(None),
        }
    }
}

impl Sorted {
    fn place(&self, hash: u64) -> Option<(u32, u32)> {
        let at = self.index.binary_search_by_key(&hash, |(hash, ..)| *hash).ok()?;
        let (_, begin, len) = self.index[at];
        Some((begin, len))
    }

    fn of_session(&self, hash: u64) -> io::Result<Vec<Event>> {
        let Some((begin, len)) = self.place(hash) else { return Ok(Vec::new()) };
        let mut bytes = vec![0; len as usize];
        self.file.read_exact_at(&mut bytes, begin.into())?;
        let mut bytes = Bytes::from(bytes);
        Ok(std::iter::from_fn(|| table::event(&mut bytes)).collect())
    }
}

fn write(table: &Table, file: File) -> io::Result<Sorted> {
    let mut sessions: Vec<_> = table.sessions().collect();
    sessions.sort_unstable();
    let mut out = BufWriter::with_capacity(256 << 10, &file);
    let (mut index, mut bytes) = (Vec::with_capacity(sessions.len()), 0_u32);
    let mut events = Vec::new();
    for hash in sessions {
        let begin = bytes;
        events.extend(table.backwards(hash));
        for event in events.drain(..).rev() {
            out.write_all(event)?;
            let len = u32::try_from(event.len()).map_err(io::Error::other)?;
            bytes = bytes.checked_add(len).ok_or_else(|| io::Error::other("a part of more than 4 GiB"))?;
        }
        index.push((hash, begin, bytes - begin));
    }
    out.flush()?;
    drop(out);
    let (floor, upto) = (table.floor(), table.upto());
    Ok(Sorted { floor, upto, file, bytes: bytes.into(), index: index.into() })
}

/// A file that is gone with the last who has it open, however that ends, and that nobody else can open before.
fn nameless(folder: &Path, spare: u64) -> io::Result<File> {
    if is_full(&rustix::fs::statvfs(folder)?, spare) {
        return Err(io::ErrorKind::StorageFull.into());
    }
    let path = folder.join(format!("herald-shelf-{:016x}", rand::random::<u64>()));
    let file = File::options().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
    fs::remove_file(&path)?;
    Ok(file)
}

/// Whether `spare` bytes are no longer free, nor a tenth of the disk: a small one would never have so much.
fn is_full(disk: &StatVfs, spare: u64) -> bool {
    let spare = (disk.f_blocks / 10).saturating_mul(disk.f_frsize).min(spare);
    disk.f_bavail.saturating_mul(disk.f_frsize) < spare
}

/// Whether what is written there stays in memory.
#[cfg(target_os = "linux")]
pub(super) fn is_in_memory(folder: &Path) -> bool {
    rustix::fs::statfs(folder).is_ok_and(|system| system.f_type == TMPFS)
}

/// Elsewhere nobody says.
#[cfg(not(target_os = "linux"))]
pub(super) const fn is_in_memory(_: &Path) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_full_with_less_than_is_to_be_spared_or_a_tenth() {
        let disk = |blocks, available| StatVfs {
            f_bsize: 4096,
            f_frsize: 1024,
            f_blocks: blocks,
            f_bfree: blocks,
            f_bavail: available,
            f_files: 9,
            f_ffree: 9,
            f_favail: 9,
            f_fsid: 0,
            f_flag: rustix::fs::StatVfsMountFlags::empty(),
            f_namemax: 255,
        };
        for (blocks, available, spare, full) in [
            (1_000_000, 1000, 1_024_000, false),
            (1_000_000, 999, 1_024_000, true),
            (5000, 500, 1_024_000, false),
            (5000, 499, 1_024_000, true),
            (5000, 0, 0, false),
            (u64::MAX, u64::MAX, u64::MAX, false),
        ] {
            assert_eq!(is_full(&disk(blocks, available), spare), full, "{available} of {blocks}, {spare} to spare");
        }
    }
}
