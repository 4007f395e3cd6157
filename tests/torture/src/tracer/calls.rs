//! The system calls of x86-64 that change or sync files, and where in the registers they keep what.
//!
//! What must hold: a call that can change a file below the folder is in one of the lists, or in [`UNSEEN`]'s.

use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use nix::errno::Errno;
use nix::libc::{self, c_long, user_regs_struct};
use nix::unistd::Pid;

/// The name of a call that changes files where no system call shows it.
pub(super) const UNSEEN: &str = "unseen";
/// The longest path that is read from a process, in bytes.
const MAX_PATH_BYTES: usize = 4096;

/// Calls about an open file, with the register that holds its descriptor.
const BY_DESCRIPTOR: [(c_long, &str, usize); 17] = [
    (libc::SYS_write, "write", 0),
    (libc::SYS_writev, "writev", 0),
    (libc::SYS_pwrite64, "pwrite64", 0),
    (libc::SYS_pwritev, "pwritev", 0),
    (libc::SYS_pwritev2, "pwritev2", 0),
    (libc::SYS_fsync, "fsync", 0),
    (libc::SYS_fdatasync, "fdatasync", 0),
    (libc::SYS_sync_file_range, "sync_file_range", 0),
    (libc::SYS_syncfs, "syncfs", 0),
    (libc::SYS_ftruncate, "ftruncate", 0),
    (libc::SYS_fallocate, "fallocate", 0),
    (libc::SYS_fchmod, "fchmod", 0),
    (libc::SYS_ioctl, "ioctl", 0),
    (libc::SYS_sendfile, "sendfile", 0),
    (libc::SYS_splice, "splice", 2),
    (libc::SYS_copy_file_range, "copy_file_range", 2),
    (libc::SYS_io_uring_setup, UNSEEN, 0),
];

/// Calls about paths, with the registers that hold them.
const BY_PATH: [(c_long, &str, &[usize]); 17] = [
    (libc::SYS_creat, "creat", &[0]),
    (libc::SYS_truncate, "truncate", &[0]),
    (libc::SYS_rename, "rename", &[0, 1]),
    (libc::SYS_renameat, "renameat", &[1, 3]),
    (libc::SYS_renameat2, "renameat2", &[1, 3]),
    (libc::SYS_unlink, "unlink", &[0]),
    (libc::SYS_unlinkat, "unlinkat", &[1]),
    (libc::SYS_mkdir, "mkdir", &[0]),
    (libc::SYS_mkdirat, "mkdirat", &[1]),
    (libc::SYS_rmdir, "rmdir", &[0]),
    (libc::SYS_link, "link", &[0, 1]),
    (libc::SYS_linkat, "linkat", &[1, 3]),
    (libc::SYS_symlink, "symlink", &[1]),
    (libc::SYS_symlinkat, "symlinkat", &[2]),
    (libc::SYS_chmod, "chmod", &[0]),
    (libc::SYS_fchmodat, "fchmodat", &[1]),
    (libc::SYS_mknodat, "mknodat", &[1]),
];

/// Opening changes the folder only with one of these.
const CREATING: u64 = (libc::O_CREAT | libc::O_TRUNC) as u64;
/// A mapping that writes to its file.
const SHARED: u64 = libc::MAP_SHARED as u64;
const WRITABLE: u64 = libc::PROT_WRITE as u64;

/// Whether a thread that was stopped at a call enters it.
pub(super) fn is_entry(registers: &user_regs_struct) -> bool {
    // The kernel puts this there before the call has a result.
    registers.rax == negative(Errno::ENOSYS)
}

/// The name of the call that is entered and the files that it is about, if it can change or sync one.
pub(super) fn changes_files(pid: Pid, registers: &user_regs_struct) -> Option<(&'static str, Vec<PathBuf>)> {
    let number = c_long::try_from(registers.orig_rax).ok()?;
    let arguments = [registers.rdi, registers.rsi, registers.rdx, registers.r10, registers.r8];
    if number == libc::SYS_mmap {
        let writes = registers.r10 & SHARED != 0 && registers.rdx & WRITABLE != 0;
        return writes.then(|| (UNSEEN, opened(pid, registers.r8).into_iter().collect()));
    }
    let opening = match number {
        libc::SYS_open => Some(("open", registers.rdi, registers.rsi)),
        libc::SYS_openat => Some(("openat", registers.rsi, registers.rdx)),
        _ => None,
    };
    if let Some((name, path, flags)) = opening {
        return (flags & CREATING != 0).then(|| (name, text_at(pid, path).into_iter().collect()));
    }
    if let Some((_, name, register)) = BY_DESCRIPTOR.iter().find(|(known, ..)| *known == number) {
        return Some((name, opened(pid, arguments[*register]).into_iter().collect()));
    }
    let (_, name, registers) = BY_PATH.iter().find(|(known, ..)| *known == number)?;
    // Of a rename, what is replaced tells more than what goes.
    let paths = registers.iter().rev().filter_map(|register| text_at(pid, arguments[*register])).collect();
    Some((name, paths))
}

/// The bytes that a write is to write, where the call has such a count.
pub(super) fn count_of_write(registers: &user_regs_struct) -> Option<u64> {
    let number = c_long::try_from(registers.orig_rax).ok()?;
    [libc::SYS_write, libc::SYS_pwrite64].contains(&number).then_some(registers.rdx)
}

/// Changes the bytes that a write is to write.
pub(super) fn set_count(registers: &mut user_regs_struct, count: u64) {
    registers.rdx = count;
}

/// Has the call that is entered do nothing.
pub(super) fn skip(registers: &mut user_regs_struct) {
    registers.orig_rax = u64::MAX;
}

/// The call that returns has failed.
pub(super) fn set_result(registers: &mut user_regs_struct, errno: Errno) {
    registers.rax = negative(errno);
}

fn negative(errno: Errno) -> u64 {
    (-i64::from(errno as i32)).cast_unsigned()
}

/// The file of a descriptor.
fn opened(pid: Pid, descriptor: u64) -> Option<PathBuf> {
    // The upper half of the register is not the descriptor's.
    let descriptor = descriptor & u64::from(u32::MAX);
    std::fs::read_link(format!("/proc/{pid}/fd/{descriptor}")).ok()
}

/// The path at an address of the process.
fn text_at(pid: Pid, address: u64) -> Option<PathBuf> {
    let memory = std::fs::File::open(format!("/proc/{pid}/mem")).ok()?;
    let mut bytes = vec![0; MAX_PATH_BYTES];
    // What lies behind the text may not be mapped: then fewer bytes come.
    let count = memory.read_at(&mut bytes, address).ok()?;
    let end = bytes[..count].iter().position(|byte| *byte == 0)?;
    bytes.truncate(end);
    Some(std::ffi::OsString::from_vec(bytes).into())
}
