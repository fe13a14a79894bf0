//! Open files: what a descriptor refers to.

use super::{
    Kind, Node,
    device::Memory,
    epoll::Epoll,
    event::{EventCounter, Timer},
    locks::Owner,
    pipe::Pipe,
    stream::Stream,
    terminal::Terminal,
    uses::Part,
    watch::{self, Inotify},
};
use crate::{
    linux::{
        Errno, O_ACCMODE, O_APPEND, O_NONBLOCK, O_PATH, O_RDONLY, O_WRONLY, POLLERR, POLLHUP,
        POLLIN, POLLOUT, POLLRDNORM, POLLWRNORM, SIGTTIN, SIGTTOU,
    },
    machine::guest::{Sink, Source},
    net::{Manner, Outgoing, Socket},
    task::{Process, Task},
    wait::{Stop, WaitQueue, Waiter},
};
use alloc::{boxed::Box, rc::Rc, vec::Vec};
use core::{
    cell::{Cell, OnceCell, RefCell},
    sync::atomic::{AtomicU64, Ordering},
};

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// What is open.
#[derive(Debug)]
pub enum Object {
    /// A regular file, directory, symbolic link (O_PATH), memory device.
    Node,
    /// An end of a pipe or FIFO.
    Pipe(Rc<Pipe>),
    /// A terminal, from a program's side.
    Terminal(Rc<Terminal>),
    /// The master of a pty.
    Master(Rc<Terminal>),
    /// Standard input from the daemon.
    Input(Rc<Stream>),
    /// Standard output or error to the daemon.
    Output(Rc<Stream>),
    /// A socket.
    Socket(Rc<Socket>),
    /// An inotify instance.
    Inotify(Rc<Inotify>),
    /// An eventfd.
    Event(EventCounter),
    /// A timerfd.
    Timer(Timer),
    /// A signalfd with its mask.
    Signal(Cell<u64>),
    /// An epoll instance.
    Epoll(Rc<Epoll>),
    /// A process.
    Process(Rc<Process>),
    /// Text made when it was opened (/proc).
    Text(RefCell<Vec<u8>>),
}

/// An open file description.
#[derive(Debug)]
pub struct OpenFile {
    /// Names it among others.
    pub id: u64,
    /// The node, if it has one.
    pub node: Option<Rc<Node>>,
    /// What is open.
    pub object: Object,
    flags: Cell<u32>,
    /// Offset of reads and writes.
    pub offset: Cell<u64>,
    /// Name of the last directory entry that was told.
    pub listed: RefCell<Option<Box<[u8]>>>,
    /// Path it was opened by.
    pub path: Vec<u8>,
    /// Its part in what keeps the node from being run.
    writing: OnceCell<Part>,
}

/// Who reads or writes, for what depends on it.
pub struct Io<'a> {
    /// Who calls.
    pub task: &'a Task,
    /// Signals to send afterwards: group and number.
    pub signals: RefCell<Vec<(i32, u8)>>,
    /// Something may have to be told the daemon.
    pub told: Cell<bool>,
}

impl<'a> Io<'a> {
    /// Who waits.
    #[must_use]
    pub const fn waiter(&self) -> Waiter {
        self.task.waiter()
    }
    /// Signals that are blocked or ignored.
    #[must_use]
    pub fn immune(&self) -> u64 {
        self.task.mask.get() | self.task.process.actions.borrow().ignored()
    }
    /// How a socket waits.
    const fn manner(&self, non_blocking: bool) -> Manner<'a> {
        Manner { non_blocking, task: self.task }
    }
}

impl core::fmt::Debug for Io<'_> {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        formatter.write_str("Io")
    }
}

impl OpenFile {
    /// Opens something. Flags are those of open(2) that stay.
    #[must_use]
    pub fn new(object: Object, node: Option<Rc<Node>>, flags: u32, path: Vec<u8>) -> Rc<Self> {
        let file = Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            node,
            object,
            flags: Cell::new(flags),
            offset: Cell::new(0),
            listed: RefCell::new(None),
            path,
            writing: OnceCell::new(),
        };
        match &file.object {
            Object::Pipe(pipe) => pipe.open(file.reads(), file.writes()),
            Object::Terminal(terminal) => terminal.count(false, true),
            Object::Master(terminal) => terminal.count(true, true),
            Object::Input(stream) | Object::Output(stream) => stream.count(true),
            _ => {}
        }
        Rc::new(file)
    }

    /// Notes that it was opened by a name: if it may write a regular file, nobody runs that meanwhile. (A memfd's first descriptor keeps nobody from that.)
    pub fn opened_by_name(&self) {
        if let Some(node) = self.node.as_ref().filter(|_| self.writes() && self.data().is_ok()) {
            let _ = self.writing.set(Part::writing(node));
        }
    }

    /// Flags of open(2).
    #[must_use]
    pub fn flags(&self) -> u32 {
        self.flags.get()
    }
    /// Changes the flags.
    pub fn set_flags(&self, flags: u32) {
        self.flags.set(flags);
    }
    /// Whether it may be read.
    #[must_use]
    pub fn reads(&self) -> bool {
        self.flags.get() & O_ACCMODE != O_WRONLY && self.flags.get() & O_PATH == 0
    }
    /// Whether it may be written.
    #[must_use]
    pub fn writes(&self) -> bool {
        self.flags.get() & O_ACCMODE != O_RDONLY && self.flags.get() & O_PATH == 0
    }
    fn is_non_blocking(&self) -> bool {
        self.flags.get() & O_NONBLOCK != 0
    }
    /// The node's file contents.
    ///
    /// # Errors
    /// `EINVAL` if it is no regular file.
    pub fn data(&self) -> Result<&super::data::FileData, Errno> {
        match self.node.as_deref().map(|node| &node.kind) {
            Some(Kind::File(data)) => Ok(data),
            _ => Err(Errno::EINVAL),
        }
    }

    fn memory_device(&self) -> Result<Memory, Errno> {
        let rdev = self.node.as_ref().map_or(0, |node| node.meta().rdev);
        Memory::from_number(super::node::major(rdev), super::node::minor(rdev)).ok_or(Errno::ENXIO)
    }

    /// Reads; at a position for those that have one (`None`: the offset).
    ///
    /// # Errors
    /// Those of read(2), waits.
    pub fn read(
        &self,
        sink: &mut Sink<'_>,
        position: Option<u64>,
        io: &Io<'_>,
    ) -> Result<usize, Stop> {
        if !self.reads() {
            return Err(Errno::EBADF.into());
        }
        let non_blocking = self.is_non_blocking();
        if position.is_some() && !matches!(self.object, Object::Node | Object::Text(_)) {
            return Err(Errno::ESPIPE.into());
        }
        match &self.object {
            Object::Node => self.read_node(sink, position).map_err(Stop::from),
            Object::Pipe(pipe) => pipe.read(sink, non_blocking, io.waiter()),
            Object::Terminal(terminal) => {
                check_background(terminal, SIGTTIN, io)?;
                terminal.read(sink, non_blocking, io.waiter(), io.task.call_begun())
            }
            Object::Master(terminal) => terminal.master_read(sink, non_blocking, io.waiter()),
            Object::Input(stream) => {
                io.told.set(true);
                stream.read(sink, non_blocking, io.waiter())
            }
            Object::Socket(socket) => {
                let manner = io.manner(non_blocking);
                socket.receive(sink, 0, false, manner).map(|received| received.count)
            }
            Object::Inotify(inotify) => inotify.read(sink, non_blocking, io.waiter()),
            Object::Event(counter) => counter.read(sink, non_blocking, io.waiter()),
            Object::Timer(timer) => timer.read(sink, non_blocking, io.waiter()),
            Object::Text(text) => {
                let at = position.unwrap_or(self.offset.get());
                let text = text.borrow();
                let rest =
                    text.get(usize::try_from(at).unwrap_or(usize::MAX)..).unwrap_or_default();
                let count = rest.len().min(sink.room());
                sink.put(rest.get(..count).unwrap_or_default())?;
                if position.is_none() {
                    self.offset.set(at + count as u64);
                }
                Ok(count)
            }
            Object::Signal(_) | Object::Output(_) | Object::Epoll(_) | Object::Process(_) => {
                Err(Errno::EINVAL.into())
            }
        }
    }

    fn read_node(&self, sink: &mut Sink<'_>, position: Option<u64>) -> Result<usize, Errno> {
        let node = self.node.as_ref().ok_or(Errno::EBADF)?;
        match &node.kind {
            Kind::File(data) => {
                let at = position.unwrap_or(self.offset.get());
                let count = data.read(at, sink)?;
                if position.is_none() {
                    self.offset.set(at + count as u64);
                }
                node.touch_accessed();
                watch::tell(node, watch::ACCESS);
                Ok(count)
            }
            Kind::Device => self.memory_device()?.read(sink),
            Kind::Directory(_) | Kind::Proc(_) => Err(Errno::EISDIR),
            _ => Err(Errno::EINVAL),
        }
    }

    /// Writes; at a position for those that have one (`None`: the offset, or the end in append mode). `limit` is RLIMIT_FSIZE.
    ///
    /// # Errors
    /// Those of write(2), waits. The caller sends SIGPIPE for `EPIPE` and SIGXFSZ for `EFBIG`.
    pub fn write(
        &self,
        source: &mut Source<'_>,
        position: Option<u64>,
        limit: u64,
        io: &Io<'_>,
    ) -> Result<usize, Stop> {
        if !self.writes() {
            return Err(Errno::EBADF.into());
        }
        let non_blocking = self.is_non_blocking();
        if position.is_some() && !matches!(self.object, Object::Node) {
            return Err(Errno::ESPIPE.into());
        }
        match &self.object {
            Object::Node => self.write_node(source, position, limit, io.task).map_err(Stop::from),
            Object::Pipe(pipe) => pipe.write(source, non_blocking, io.waiter()),
            Object::Terminal(terminal) => {
                if terminal.stops_writers() {
                    check_background(terminal, SIGTTOU, io)?;
                }
                io.told.set(true);
                terminal.write(source, non_blocking, io.waiter())
            }
            Object::Master(terminal) => {
                let mut bytes = alloc::vec![0; source.left().min(4096)];
                source.take(&mut bytes)?;
                let (used, signal) = terminal.type_in(&bytes);
                if let Some(signal) = signal {
                    io.signals.borrow_mut().push((terminal.foreground.get(), signal));
                }
                Ok(used.max(1).min(bytes.len()))
            }
            Object::Output(stream) => {
                io.told.set(true);
                stream.write(source, non_blocking, io.waiter())
            }
            Object::Socket(socket) => {
                let identity = identity_of(&io.task.process);
                let mut out = Outgoing { identity, ..Outgoing::default() };
                socket.send(source, &mut out, io.manner(non_blocking))
            }
            Object::Event(counter) => counter.write(source, non_blocking, io.waiter()),
            Object::Text(text) => self.write_text(source, text, io.task).map_err(Stop::from),
            _ => Err(Errno::EINVAL.into()),
        }
    }

    /// A write to a file of /proc is one whole word to it, wherever it is written.
    fn write_text(
        &self,
        source: &mut Source<'_>,
        text: &RefCell<Vec<u8>>,
        task: &Task,
    ) -> Result<usize, Errno> {
        let Some(Kind::Proc(proc)) = self.node.as_ref().map(|node| &node.kind) else {
            return Err(Errno::EINVAL);
        };
        let count = source.left();
        let mut bytes = alloc::vec![0; count.min(4096)];
        source.take(&mut bytes)?;
        proc.write(&bytes, task)?;
        *text.borrow_mut() = bytes;
        Ok(count)
    }

    fn write_node(
        &self,
        source: &mut Source<'_>,
        position: Option<u64>,
        limit: u64,
        task: &Task,
    ) -> Result<usize, Errno> {
        let node = self.node.as_ref().ok_or(Errno::EBADF)?;
        match &node.kind {
            Kind::File(data) => {
                let at = match position {
                    _ if self.flags.get() & O_APPEND != 0 => data.size(),
                    Some(position) => position,
                    None => self.offset.get(),
                };
                let count = data.write(at, source, limit)?;
                if position.is_none() {
                    self.offset.set(at + count as u64);
                }
                if count > 0 {
                    node.lose_set_ids(task);
                }
                node.touch_modified();
                watch::tell(node, watch::MODIFY);
                Ok(count)
            }
            Kind::Device => self.memory_device()?.write(source),
            Kind::Directory(_) => Err(Errno::EISDIR),
            _ => Err(Errno::EINVAL),
        }
    }

    /// What poll(2) says.
    #[must_use]
    pub fn poll(&self) -> u32 {
        match &self.object {
            Object::Node | Object::Text(_) => POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM,
            Object::Pipe(pipe) => pipe.poll(self.reads(), self.writes()),
            Object::Terminal(terminal) => terminal.poll(),
            Object::Master(terminal) => terminal.poll_master(),
            Object::Input(stream) => stream.poll(true),
            Object::Output(stream) => stream.poll(false),
            Object::Socket(socket) => socket.poll(),
            Object::Inotify(inotify) => inotify.poll(),
            Object::Event(counter) => counter.poll(),
            Object::Timer(timer) => timer.poll(),
            Object::Epoll(epoll) => epoll.poll(),
            Object::Process(process) => {
                if matches!(process.life.get(), crate::task::Life::Zombie(_)) { POLLIN } else { 0 }
            }
            // The caller knows the pending signals.
            Object::Signal(_) => 0,
        }
    }

    /// Joins the queues that tell of events; a time at which to look anyway.
    pub fn watch(&self, waiter: Waiter, events: u32) -> u64 {
        self.each_queue(|queue| queue.join_for(waiter, events | POLLERR | POLLHUP));
        self.tick()
    }

    /// Every queue that tells of a change. (Signals have theirs at the process.)
    pub(crate) fn each_queue(&self, mut each: impl FnMut(&WaitQueue)) {
        match &self.object {
            Object::Node | Object::Text(_) | Object::Signal(_) => {}
            Object::Pipe(pipe) => {
                if self.reads() {
                    each(&pipe.read_queue);
                }
                if self.writes() {
                    each(&pipe.write_queue);
                }
            }
            Object::Terminal(terminal) => {
                each(&terminal.read_queue);
                each(&terminal.write_queue);
            }
            Object::Master(terminal) => each(&terminal.shown_queue),
            Object::Input(stream) | Object::Output(stream) => each(&stream.queue),
            Object::Socket(socket) => each(&socket.queue),
            Object::Inotify(inotify) => each(&inotify.queue),
            Object::Event(counter) => each(&counter.queue),
            Object::Timer(timer) => each(&timer.queue),
            Object::Epoll(epoll) => each(&epoll.queue),
            Object::Process(process) => each(&process.end_queue),
        }
    }

    /// Looks at what becomes ready with time; when to look again.
    pub fn tick(&self) -> u64 {
        match &self.object {
            Object::Timer(timer) => timer.tick(),
            Object::Epoll(epoll) => epoll.tick(),
            _ => u64::MAX,
        }
    }
}

/// Identity for SCM_CREDENTIALS.
#[must_use]
pub fn identity_of(process: &Process) -> (i32, u32, u32) {
    let credentials = process.credentials.borrow();
    (process.pid, credentials.users[0], credentials.groups[0])
}

/// A background group that reads or writes its terminal is stopped, or gets an error if it does not care.
pub(crate) fn check_background(terminal: &Terminal, signal: u8, io: &Io<'_>) -> Result<(), Stop> {
    let is_controlling =
        terminal.session.get() == io.task.process.session.get() && terminal.session.get() != 0;
    let foreground = terminal.foreground.get();
    if !is_controlling || foreground == 0 || foreground == io.task.process.group.get() {
        return Ok(());
    }
    if io.immune() & 1 << (signal - 1) != 0 {
        return if signal == SIGTTIN { Err(Errno::EIO.into()) } else { Ok(()) };
    }
    io.signals.borrow_mut().push((io.task.process.group.get(), signal));
    // The call begins anew when the group is continued.
    Err(Stop::Wait(u64::MAX))
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        watch::tell_close(self);
        match &self.object {
            Object::Pipe(pipe) => pipe.close(self.reads(), self.writes()),
            Object::Terminal(terminal) => terminal.count(false, false),
            Object::Master(terminal) => terminal.count(true, false),
            Object::Input(stream) | Object::Output(stream) => {
                stream.count(false);
                crate::session::mark_dirty();
            }
            _ => {}
        }
        if let Some(node) = &self.node {
            node.locks.release(Owner::Description(self.id, false), 0, u64::MAX);
            node.locks.release(Owner::Description(self.id, true), 0, u64::MAX);
        }
    }
}
