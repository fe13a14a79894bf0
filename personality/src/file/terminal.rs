//! Terminals: the line discipline, pseudo-terminals and the container's console (termios(3), pty(7), ioctl_tty(2)).
//!
//! A terminal has two sides: programs read lines from it and write text to it; whoever drives it (the master's holder, the daemon) puts in what was typed
//! and takes what is to be shown. Signals of the keyboard are returned to the caller, who knows the processes.

use crate::{
    linux::{
        Errno, POLLHUP, POLLIN, POLLOUT, POLLRDNORM, POLLWRNORM, SIGINT, SIGQUIT, SIGTSTP,
        layouts::{Termios, Winsize},
    },
    machine::guest::{Sink, Source},
    wait::{Stop, WAIT, WaitQueue, Waiter},
};
use alloc::{collections::VecDeque, vec::Vec};
use core::cell::{Cell, RefCell};

// termios(3): input, output and local flags; indices of control characters.
const ICRNL: u32 = 0o400;
const IGNCR: u32 = 0o200;
const INLCR: u32 = 0o100;
const OPOST: u32 = 1;
const ONLCR: u32 = 4;
const ISIG: u32 = 1;
const ICANON: u32 = 2;
const ECHO: u32 = 0o10;
const ECHOE: u32 = 0o20;
const ECHOK: u32 = 0o40;
const ECHONL: u32 = 0o100;
const NOFLSH: u32 = 0o200;
const TOSTOP: u32 = 0o400;
const ECHOCTL: u32 = 0o1000;
const IEXTEN: u32 = 0o100000;
const VINTR: usize = 0;
const VQUIT: usize = 1;
const VERASE: usize = 2;
const VKILL: usize = 3;
const VEOF: usize = 4;
const VTIME: usize = 5;
const VMIN: usize = 6;
const VSUSP: usize = 10;
const VEOL: usize = 11;
const VWERASE: usize = 14;

/// Text that may wait to be shown, and input that may wait to be read.
const LIMIT: usize = 64 * 1024;
/// Longest line that is edited.
const MAX_LINE: usize = 4095;

/// A terminal.
#[derive(Debug)]
pub struct Terminal {
    /// Number in /dev/pts.
    pub index: u32,
    /// Whether no program drives it but who attaches to the container does.
    is_outside: bool,
    termios: Cell<Termios>,
    size: Cell<Winsize>,
    edited: RefCell<Vec<u8>>,
    /// Complete lines, or typed pieces in raw mode.
    ready: RefCell<VecDeque<VecDeque<u8>>>,
    shown: RefCell<VecDeque<u8>>,
    /// The session it controls, and that session's foreground group; 0 is none.
    pub session: Cell<i32>,
    /// See `session`.
    pub foreground: Cell<i32>,
    slaves: Cell<u32>,
    masters: Cell<u32>,
    was_opened: Cell<bool>,
    /// Its processes have to be told that the master is gone.
    pub hangs_up: Cell<bool>,
    /// A pty's slave cannot be opened before `unlockpt`.
    pub locked: Cell<bool>,
    /// Those who wait for lines, for room to show, for something shown.
    pub read_queue: WaitQueue,
    /// See `read_queue`.
    pub write_queue: WaitQueue,
    /// See `read_queue`.
    pub shown_queue: WaitQueue,
}

/// The modes of a new terminal.
fn sane() -> Termios {
    let mut cc = [0; 19];
    for (index, value) in [
        (VINTR, 3),
        (VQUIT, 28),
        (VERASE, 127),
        (VKILL, 21),
        (VEOF, 4),
        (VMIN, 1),
        (8, 17),
        (9, 19),
        (VSUSP, 26),
        (12, 18),
        (13, 15),
        (VWERASE, 23),
        (15, 22),
    ] {
        cc[index] = value;
    }
    Termios {
        iflag: 0o2400 | ICRNL,
        oflag: OPOST | ONLCR,
        cflag: 0o277,
        lflag: ISIG | ICANON | ECHO | ECHOE | ECHOK | ECHOCTL | 0o4000 | IEXTEN,
        line: 0,
        cc,
    }
}

impl Terminal {
    /// A new pseudo-terminal, driven by a program or from outside the compartment.
    #[must_use]
    pub fn new(index: u32, is_outside: bool) -> Self {
        Self {
            index,
            is_outside,
            termios: Cell::new(sane()),
            size: Cell::new(Winsize { rows: 0, columns: 0, xpixel: 0, ypixel: 0 }),
            edited: RefCell::new(Vec::new()),
            ready: RefCell::new(VecDeque::new()),
            shown: RefCell::new(VecDeque::new()),
            session: Cell::new(0),
            foreground: Cell::new(0),
            slaves: Cell::new(0),
            masters: Cell::new(0),
            was_opened: Cell::new(false),
            hangs_up: Cell::new(false),
            locked: Cell::new(!is_outside),
            read_queue: WaitQueue::new(),
            write_queue: WaitQueue::new(),
            shown_queue: WaitQueue::new(),
        }
    }

    /// A side is opened (true) or closed.
    pub fn count(&self, master: bool, opened: bool) {
        let count = if master { &self.masters } else { &self.slaves };
        count.set(if opened { count.get() + 1 } else { count.get().saturating_sub(1) });
        if !master && opened {
            self.was_opened.set(true);
        }
        if count.get() == 0 {
            self.wake_all();
            if master {
                self.hangs_up.set(true);
                crate::session::mark_dirty();
            }
        }
    }

    fn wake_all(&self) {
        self.read_queue.wake();
        self.write_queue.wake();
        self.shown_queue.wake();
    }

    /// Whether the driving side has gone for good.
    #[must_use]
    pub fn is_hung_up(&self) -> bool {
        !self.is_outside && self.masters.get() == 0
    }
    /// Whether all programs have closed it.
    fn is_deserted(&self) -> bool {
        !self.is_outside && self.was_opened.get() && self.slaves.get() == 0
    }

    /// Its modes.
    #[must_use]
    pub fn termios(&self) -> Termios {
        self.termios.get()
    }
    /// Changes its modes; `flush` forgets typed input.
    pub fn set_termios(&self, termios: Termios, flush: bool) {
        let was_canonical = self.has(ICANON);
        self.termios.set(termios);
        if flush {
            self.flush_input();
        }
        if was_canonical && !self.has(ICANON) {
            let edited = self.edited.take();
            if !edited.is_empty() {
                self.ready.borrow_mut().push_back(edited.into());
            }
        }
        self.read_queue.wake();
    }
    /// Forgets input.
    pub fn flush_input(&self) {
        self.edited.borrow_mut().clear();
        self.ready.borrow_mut().clear();
    }
    /// Forgets output.
    pub fn flush_output(&self) {
        self.shown.borrow_mut().clear();
        self.write_queue.wake();
    }
    /// Its size.
    #[must_use]
    pub fn size(&self) -> Winsize {
        self.size.get()
    }
    /// Changes the size; whether it is another one.
    pub fn set_size(&self, size: Winsize) -> bool {
        let before = self.size.replace(size);
        (before.rows, before.columns) != (size.rows, size.columns)
    }

    fn has(&self, flag: u32) -> bool {
        self.termios.get().lflag & flag != 0
    }
    /// Whether background groups may not write.
    #[must_use]
    pub fn stops_writers(&self) -> bool {
        self.has(TOSTOP)
    }
    fn control(&self, index: usize) -> u8 {
        self.termios.get().cc.get(index).copied().unwrap_or(0)
    }
    /// Bytes that can be read.
    #[must_use]
    pub fn readable(&self) -> usize {
        self.ready.borrow().iter().map(VecDeque::len).sum()
    }
    fn can_read(&self) -> bool {
        !self.ready.borrow().is_empty()
    }
    /// Text that waits to be shown.
    #[must_use]
    pub fn shown_length(&self) -> usize {
        self.shown.borrow().len()
    }

    /// What was typed; the signal it means for the foreground group, at most one, and the bytes used.
    pub fn type_in(&self, bytes: &[u8]) -> (usize, Option<u8>) {
        let mut signal = None;
        let mut used = 0;
        for byte in bytes {
            if self.readable() + self.edited.borrow().len() >= LIMIT || signal.is_some() {
                break;
            }
            used += 1;
            signal = self.type_byte(*byte);
        }
        self.read_queue.wake();
        (used, signal)
    }

    fn type_byte(&self, byte: u8) -> Option<u8> {
        let termios = self.termios.get();
        let byte = match byte {
            b'\r' if termios.iflag & IGNCR != 0 => return None,
            b'\r' if termios.iflag & ICRNL != 0 => b'\n',
            b'\n' if termios.iflag & INLCR != 0 => b'\r',
            byte => byte,
        };
        if self.has(ISIG) && byte != 0 {
            for (index, signal) in [(VINTR, SIGINT), (VQUIT, SIGQUIT), (VSUSP, SIGTSTP)] {
                if byte == self.control(index) {
                    self.echo(byte);
                    if !self.has(NOFLSH) {
                        self.flush_input();
                    }
                    return Some(signal);
                }
            }
        }
        if self.has(ICANON) {
            self.edit(byte);
        } else {
            self.echo(byte);
            let mut ready = self.ready.borrow_mut();
            match ready.back_mut() {
                Some(piece) => piece.push_back(byte),
                None => ready.push_back(VecDeque::from([byte])),
            }
        }
        None
    }

    /// Edits the line.
    fn edit(&self, byte: u8) {
        let is = |index| byte != 0 && byte == self.control(index);
        if is(VERASE) {
            if self.edited.borrow_mut().pop().is_some() {
                self.erase(1);
            }
        } else if is(VKILL) {
            let count = self.edited.take().len();
            self.erase(count);
        } else if is(VWERASE) && self.has(IEXTEN) {
            let mut edited = self.edited.borrow_mut();
            let before = edited.len();
            while edited.last() == Some(&b' ') {
                edited.pop();
            }
            while edited.last().is_some_and(|last| *last != b' ') {
                edited.pop();
            }
            let count = before - edited.len();
            drop(edited);
            self.erase(count);
        } else if is(VEOF) {
            let line = self.edited.take();
            self.ready.borrow_mut().push_back(line.into());
        } else if byte == b'\n' || is(VEOL) {
            if self.has(ECHO) || self.has(ECHONL) {
                self.show(b"\n");
            }
            let mut line = self.edited.take();
            line.push(byte);
            self.ready.borrow_mut().push_back(line.into());
        } else if self.edited.borrow().len() < MAX_LINE {
            self.edited.borrow_mut().push(byte);
            self.echo(byte);
        }
    }

    fn erase(&self, count: usize) {
        if self.has(ECHO) && self.has(ECHOE) {
            for _ in 0..count {
                self.show(b"\x08 \x08");
            }
        }
    }

    fn echo(&self, byte: u8) {
        if !self.has(ECHO) {
            return;
        }
        if self.has(ECHOCTL) && byte < 32 && byte != b'\t' && byte != b'\n' && byte != b'\r' {
            self.show(&[b'^', byte + 64]);
        } else {
            self.show(&[byte]);
        }
    }

    /// Shows text, in output processing.
    fn show(&self, bytes: &[u8]) {
        let oflag = self.termios.get().oflag;
        let mut shown = self.shown.borrow_mut();
        for byte in bytes {
            if *byte == b'\n' && oflag & (OPOST | ONLCR) == OPOST | ONLCR {
                shown.push_back(b'\r');
            }
            shown.push_back(*byte);
        }
        drop(shown);
        self.shown_queue.wake();
    }

    /// A program reads: a line, or what was typed.
    ///
    /// # Errors
    /// `EIO` when hung up, `EAGAIN`, waits.
    pub fn read(
        &self,
        sink: &mut Sink<'_>,
        non_blocking: bool,
        waiter: Waiter,
        begun: u64,
    ) -> Result<usize, Stop> {
        if sink.room() == 0 {
            return Ok(0);
        }
        if !self.can_read() {
            return self.wait_for_input(non_blocking, waiter, begun);
        }
        let mut ready = self.ready.borrow_mut();
        let Some(line) = ready.front_mut() else { return Ok(0) };
        let count = line.len().min(sink.room());
        let (first, second) = line.as_slices();
        let from_first = first.len().min(count);
        sink.put(first.get(..from_first).unwrap_or_default())?;
        sink.put(second.get(..count - from_first).unwrap_or_default())?;
        line.drain(..count);
        if line.is_empty() {
            ready.pop_front();
        }
        drop(ready);
        self.write_queue.wake();
        Ok(count)
    }

    fn wait_for_input(
        &self,
        non_blocking: bool,
        waiter: Waiter,
        begun: u64,
    ) -> Result<usize, Stop> {
        if self.is_hung_up() {
            return Ok(0);
        }
        let is_raw = !self.has(ICANON);
        if is_raw && self.control(VMIN) == 0 {
            let tenths = u64::from(self.control(VTIME));
            let deadline = begun.saturating_add(rt::clock::ticks(tenths * 100_000_000));
            if tenths == 0 || rt::clock::now() >= deadline {
                return Ok(0);
            }
            self.read_queue.join(waiter);
            return Err(Stop::Wait(deadline));
        }
        if non_blocking {
            return Err(Errno::EAGAIN.into());
        }
        self.read_queue.join(waiter);
        Err(WAIT)
    }

    /// A program writes.
    ///
    /// # Errors
    /// `EIO` when hung up, `EAGAIN`, waits.
    pub fn write(
        &self,
        source: &mut Source<'_>,
        non_blocking: bool,
        waiter: Waiter,
    ) -> Result<usize, Stop> {
        if self.is_hung_up() {
            return Err(Errno::EIO.into());
        }
        let room = LIMIT.saturating_sub(self.shown.borrow().len());
        let count = source.left().min(room);
        if count == 0 && source.left() > 0 {
            if non_blocking {
                return Err(Errno::EAGAIN.into());
            }
            self.write_queue.join(waiter);
            return Err(WAIT);
        }
        let mut left = count;
        let mut chunk = [0; 512];
        while left > 0 {
            let now = left.min(chunk.len());
            let part = chunk.get_mut(..now).unwrap_or_default();
            source.take(part)?;
            self.show(part);
            left -= now;
        }
        Ok(count)
    }

    /// The driving side takes what is to be shown.
    pub fn take_shown(&self, limit: usize) -> Vec<u8> {
        let mut shown = self.shown.borrow_mut();
        let count = shown.len().min(limit);
        let bytes = shown.drain(..count).collect();
        drop(shown);
        self.write_queue.wake();
        bytes
    }

    /// The master reads.
    ///
    /// # Errors
    /// `EIO` when all programs have closed it, `EAGAIN`, waits.
    pub fn master_read(
        &self,
        sink: &mut Sink<'_>,
        non_blocking: bool,
        waiter: Waiter,
    ) -> Result<usize, Stop> {
        if self.shown.borrow().is_empty() {
            if self.is_deserted() {
                return Err(Errno::EIO.into());
            }
            if non_blocking {
                return Err(Errno::EAGAIN.into());
            }
            self.shown_queue.join(waiter);
            return Err(WAIT);
        }
        let bytes = self.take_shown(sink.room());
        sink.put(&bytes)?;
        Ok(bytes.len())
    }

    /// What poll(2) says of the programs' side.
    #[must_use]
    pub fn poll(&self) -> u32 {
        let mut mask = 0;
        if self.can_read() {
            mask |= POLLIN | POLLRDNORM;
        }
        if self.shown.borrow().len() < LIMIT {
            mask |= POLLOUT | POLLWRNORM;
        }
        if self.is_hung_up() {
            mask |= POLLHUP | POLLIN;
        }
        mask
    }

    /// What poll(2) says of the master.
    #[must_use]
    pub fn poll_master(&self) -> u32 {
        let mut mask = POLLOUT | POLLWRNORM;
        if !self.shown.borrow().is_empty() {
            mask |= POLLIN | POLLRDNORM;
        }
        if self.is_deserted() {
            mask |= POLLHUP;
        }
        mask
    }
}
