//! Native stack accounting: templates recurse as deep as their authors like, and must fail rather than overflow.
//!
//! The depth is measured in bytes of stack, not in levels: addresses of locals tell how much is used. A thread that
//! [`with_stack`] started has [`STACK_BYTES`]; any other is trusted for [`UNKNOWN_BYTES`] from where a run begins.

use std::cell::Cell;
use std::sync::Mutex;

/// The stack of threads started by [`with_stack`], in bytes (virtual: only what is touched becomes real memory).
pub const STACK_BYTES: usize = 256 << 20;
/// How much of an unknown thread's stack a run may use, in bytes.
pub const UNKNOWN_BYTES: usize = 1 << 20;
/// Left for functions that do not measure.
const RESERVE: usize = 1 << 20;

thread_local! {
    /// The lowest address a run may reach; 0 when nothing is known.
    static FLOOR: Cell<usize> = const { Cell::new(0) };
}

#[inline(never)]
fn here() -> usize {
    let local = 0u8;
    std::ptr::from_ref(&local).addr()
}

/// Whether a run on this thread has used up its stack; sets the bound on first use.
pub(crate) fn exhausted() -> bool {
    let floor = FLOOR.get();
    floor != 0 && here() < floor
}

/// Gives a run on a thread of unknown size its bound; dropping takes it away again.
pub(crate) struct Bound(bool);

impl Bound {
    pub(crate) fn enter() -> Self {
        if FLOOR.get() == 0 {
            FLOOR.set(here().saturating_sub(UNKNOWN_BYTES).max(1));
            Self(true)
        } else {
            Self(false)
        }
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        if self.0 {
            FLOOR.set(0);
        }
    }
}

/// Says that the calling thread, which does nothing else yet, was started with a stack of [`STACK_BYTES`]: templates
/// run on it in place, and [`with_stack`] starts no other. For the threads of a pool.
pub fn claim_stack() {
    FLOOR.set(here().saturating_sub(STACK_BYTES - RESERVE).max(1));
}

/// Runs `f` on a thread with a stack large enough for a thousand nested `include`s.
///
/// Templates also run elsewhere, but then give up (with an error) after about a megabyte of stack. Call it around a
/// whole batch of work: it costs a thread start. Nested calls run in place. Where no thread can be started, `f` runs
/// on the caller's.
///
/// # Panics
/// When `f` does.
pub fn with_stack<R: Send>(f: impl FnOnce() -> R + Send) -> R {
    if FLOOR.get() != 0 {
        return f();
    }
    let job = Mutex::new(Some(f));
    let take = || job.lock().map_or_else(|e| e.into_inner().take(), |mut j| j.take());
    let done = std::thread::scope(|scope| {
        let builder = std::thread::Builder::new().name("templates".to_owned()).stack_size(STACK_BYTES);
        let thread = builder.spawn_scoped(scope, || {
            claim_stack();
            take().map(|f| f())
        });
        match thread {
            Ok(thread) => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            Err(_) => None,
        }
    });
    match done {
        Some(r) => r,
        None => match take() {
            Some(f) => f(),
            None => unreachable!("the job ran neither there nor here"),
        },
    }
}
