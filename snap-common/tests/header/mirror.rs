//! What the mirror has.

use std::collections::BTreeMap;

use snap_common::abi;

macro_rules! fields {
    ($into:ident, $($record:ident { $($field:ident),* $(,)? })*) => {$(
        $into.insert(stringify!($record).to_owned(), size_of::<abi::$record>() as u64);
        $(
            let name = concat!(stringify!($record), ".", stringify!($field));
            let offset = std::mem::offset_of!(abi::$record, $field);
            $into.insert(name.to_owned(), offset as u64);
            $into.insert(format!("{name}.size"), size_of_field(|record: &abi::$record| &raw const record.$field) as u64);
        )*
    )*};
}

macro_rules! constants {
    ($into:ident, $($name:ident),* $(,)?) => {$(
        $into.insert(stringify!($name).to_owned(), u64::from(abi::$name));
    )*};
}

fn size_of_field<R, F>(_: impl Fn(&R) -> *const F) -> usize {
    size_of::<F>()
}

/// Sizes, offsets and constants by name.
pub fn of_the_mirror() -> BTreeMap<String, u64> {
    let mut all = BTreeMap::new();
    fields! {
        all,
        Info { abi_version, phase_count, features, max_targets, open_snapshots, module_version }
        Target { kind, id }
        Failure { reason, phase, target, pid, fs, device, detail, bound }
        Stamp { begin_ns, end_ns }
        Counts { pages_armed, pages_copied, pages_swapped_in, pages_prefaulted, pages_unreadable, huge_armed, pages_shared, pages_shared_stop, finalized, processes, threads_parked, threads_asleep, threads_kernel, threads_woken, rescans }
        Take { size, flags, targets, target_count, deadline_ms, fd, arm, freeze, dm_control, filesystems, switches, fs_count, switch_count, reserved, id, image_bytes, window_ns, write_window_ns, stall_ns, shared_ns, state_ns, pass_ns, rest_ns, failure, counts, phases }
        Fs { fd, flags, sync_pages, freeze_pages, sync, freeze, thaw, downgraded, unseen, mappings, reserved }
        Switch { dev, sectors, fs, switched, params, load, suspend, swap }
        Table { offset, count, stride }
        ImageHeader { magic, version, page_size, snapshot_id, instant_ns, instant_realtime_ns, data_offset, data_pages, processes, threads, vmas, runs, blobs, instance, fds, files }
        Blob { offset, length }
        ImageProcess { pid, ppid, uid, gid, first_thread, thread_count, first_vma, vma_count, comm, exe, auxv, args, start_code, end_code, start_data, end_data, start_brk, brk, start_stack, arg_start, arg_end, env_start, env_end, start_time_ns, arm_mode, arm_reason, parent_id, track, reserved, pgid, sid, flags, umask, exit_signal, personality, oom_score_adj, first_fd, fd_count, namespaces, state_reserved, sigpending, cwd, root, cgroup, credentials, limits, actions, pending, timers }
        ImageThread { pid, state, comm, regs, fs_base, gs_base, sigpending, sigblocked, sigsaved, altstack, altstack_bytes, altstack_flags, flags, rseq, rseq_bytes, rseq_signature, robust_list, robust_bytes, clear_child_tid, tls, policy, nice, rt_priority, seccomp, dl_runtime, dl_deadline, dl_period, death_signal, state_reserved, cpus, pending, credentials }
        ImageVma { start, end, file_offset, inode, dev_major, dev_minor, flags, first_run, run_count, path, reserved }
        ImageCredentials { uid, gid, inheritable, permitted, effective, bounding, ambient, securebits, group_count }
        ImageLimit { soft, hard }
        ImageAction { signal, reserved, handler, flags, restorer, mask }
        ImageSignal { signal, flags, info }
        ImageTimer { kind, flags, id, clock, notify, signal, thread, overruns, sigev_value, value_ns, interval_ns }
        ImageFd { fd, flags, file, reserved }
        ImageFile { id, kind, notes, flags, mode, position, size, inode, dev_major, dev_minor, rdev_major, rdev_minor, capacity, path, locks, text, pipe, socket }
        ImageLock { kind, write, holder, reserved, start, end }
        ImageSocket { family, kind, protocol, state, flags, descriptors, receive_queue, send_queue, peer_inode, local_bytes, peer_bytes, local, peer }
        ImageRun { vaddr, page, pages, flags }
        Release { page, pages, released, sole }
        Stretch { page, pages, sole }
        Look { stretches, count, reserved, held, sole }
    }
    constants! {
        all,
        ABI_VERSION,
        MAX_TARGETS,
        DEADLINE_MIN_MS,
        DEADLINE_MAX_MS,
        DEADLINE_DEFAULT_MS,
        PHASE_COUNT,
        FEATURE_ARM_EAGER,
        FEATURE_FREEZE_SOFT,
        FEATURE_SHARED_COPY,
        FEATURE_ARM_LAZY,
        FEATURE_FREEZE_IPI,
        FEATURE_FREEZE_SIGNAL,
        FEATURE_ARM_PUD,
        FEATURE_SHARED_LAZY,
        FEATURE_TEST,
        IMAGE_MAGIC,
        IMAGE_VERSION,
        VMA_READ,
        VMA_WRITE,
        VMA_EXEC,
        VMA_SHARED,
        VMA_SHMEM,
        VMA_GROWSDOWN,
        VMA_DEVICE,
        VMA_SPECIAL,
        VMA_DONTDUMP,
        VMA_INTERNAL,
        RUN_UNREADABLE,
        RUN_COPIED,
        RUN_UNCHANGED,
        TRACK_ON,
        TRACK_NO_KERNEL,
        TRACK_EAGER,
        TRACK_FOREIGN,
        TRACK_MERGED,
        FEATURE_TRACK,
        MAX_STRETCHES,
        IOC_RELEASE,
        IOC_LOOK,
        TARGET_PID,
        TARGET_PIDFD,
        REASON_NONE,
        REASON_BAD_ARGUMENT,
        REASON_NO_TARGETS,
        REASON_TOO_MANY_TARGETS,
        REASON_BAD_POINTER,
        REASON_NO_SUCH_PROCESS,
        REASON_BAD_PIDFD,
        REASON_KERNEL_THREAD,
        REASON_SELF,
        REASON_DUPLICATE,
        REASON_EXITING,
        REASON_FOREIGN_NOTIFIER,
        REASON_HUGETLB,
        REASON_NO_MEMORY,
        REASON_FREEZE_TIMEOUT,
        REASON_DEADLINE,
        REASON_EXEC,
        REASON_INTERRUPTED,
        REASON_SWAP_IN,
        REASON_INJECTED,
        REASON_PERMISSION,
        REASON_NO_FD,
        REASON_WOKEN,
        REASON_NO_ROOM,
        REASON_CHANGED,
        REASON_FS_BAD_FD,
        REASON_FS_KIND,
        REASON_FS_TWICE,
        REASON_FS_FROZEN,
        REASON_FS_SYNC,
        REASON_FS_FREEZE,
        REASON_FS_TIMEOUT,
        REASON_FS_THAWED,
        REASON_DM_CONTROL,
        REASON_DM_LOAD,
        REASON_DM_SUSPEND,
        REASON_DM_SWITCH,
        REASON_LOCK_TIMEOUT,
        REASON_DISK_ESCAPED,
        MAX_FILESYSTEMS,
        MAX_SWITCHES,
        PARAMS_BYTES,
        FEATURE_FILESYSTEMS,
        FEATURE_FAULT_GATE,
        FEATURE_READ_ONLY,
        FS_READ_ONLY,
        FS_TOGETHER,
        TAKE_STRICT,
        TAKE_FORCE,
        ARM_AUTO,
        ARM_EAGER,
        ARM_LAZY,
        ARM_PUD,
        ARM_ASKED,
        ARM_DEFAULT,
        ARM_NO_HOOK,
        ARM_WORKERS,
        ARM_LARGE,
        FREEZE_AUTO,
        FREEZE_SOFT,
        FREEZE_IPI,
        FREEZE_SIGNAL,
        PATH_STOP,
        PATH_FAULT,
        PATH_NOTIFIER,
        PATH_BACKGROUND,
        PATH_GUP,
        PATH_FILE,
        PATH_COUNT,
        THREAD_PARKED,
        THREAD_ASLEEP,
        THREAD_KERNEL,
        EDGE_BEGIN,
        EDGE_END,
        TIMER_REAL,
        TIMER_VIRTUAL,
        TIMER_PROF,
        TIMER_POSIX,
        NS_CGROUP,
        NS_IPC,
        NS_MNT,
        NS_NET,
        NS_PID,
        NS_PID_FOR_CHILDREN,
        NS_TIME,
        NS_TIME_FOR_CHILDREN,
        NS_USER,
        NS_UTS,
        FILE_REGULAR,
        FILE_FOLDER,
        FILE_SYMLINK,
        FILE_CHARACTER,
        FILE_BLOCK,
        FILE_PIPE,
        FILE_FIFO,
        FILE_SOCKET,
        FILE_EPOLL,
        FILE_EVENTFD,
        FILE_TIMERFD,
        FILE_SIGNALFD,
        FILE_INOTIFY,
        FILE_MEMFD,
        FILE_OTHER,
        LOCK_POSIX,
        LOCK_OFD,
        LOCK_FLOCK,
        LOCK_LEASE,
        SIGNAL_INFO,
        TIMER_NO_VALUE,
        PROCESS_AIO,
        PROCESS_KEYRINGS,
        PROCESS_PARTIAL,
        PROCESS_SUBREAPER,
        PROCESS_32BIT,
        FD_CLOEXEC,
        NOTE_TEXT_LATE,
        NOTE_TEXT_CUT,
        NOTE_PIPE_BUSY,
        NOTE_PIPE_ODD,
        NOTE_PIPE_FULL,
        NOTE_PIPE_LENT,
        NOTE_IN_MEMORY,
        NOTE_DELETED,
        SOCKET_LISTENS,
        SOCKET_LATE,
        SOCKET_ROUGH,
        THREAD_NO_NEW_PRIVS,
        THREAD_SIGSAVED,
        THREAD_TRACED,
        THREAD_OWN_FILES,
        THREAD_OWN_FS,
        THREAD_IO_URING,
        THREAD_SEM_UNDO,
        THREAD_FOREIGN,
        NS_COUNT,
        PIPE_BYTES,
        REASON_STATE_ROOM,
        FEATURE_STATE,
        IOC_GET_INFO,
        IOC_TAKE,
    }
    all
}
