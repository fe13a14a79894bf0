//! Files in flight: those in messages that nobody has received yet (unix(7), SCM_RIGHTS).
//!
//! A socket in flight can be in the inbox of a socket that is in flight itself, and so on in a circle: nobody can reach them, and counting references never frees
//! them. [`collect`] finds such circles as Linux does: sockets whose every reference is in flight, minus those that can be reached from outside.
//! Dropping a message can drop a file that drops a socket that drops messages: `Flight::bury` makes a loop of that instead of a recursion.

use super::{Network, Socket};
use crate::{
    file::{Object, OpenFile},
    linux::Errno,
};
use alloc::{
    boxed::Box,
    collections::BTreeMap,
    rc::{Rc, Weak},
    vec::Vec,
};
use core::cell::{Cell, RefCell};

/// Files of one message (SCM_MAX_FD).
pub const MAX_FILES: usize = 253;
/// Sockets in flight below which nobody looks for circles while sending.
const FEW: usize = 64;

/// Bookkeeping of all files in flight.
#[derive(Debug, Default)]
pub struct Flight {
    /// All files in flight.
    count: Cell<usize>,
    /// Sockets in flight by the number of their open file, and how often each is.
    sockets: RefCell<BTreeMap<u64, (Weak<OpenFile>, usize)>>,
    /// When to look for circles while sending.
    collect_at: Cell<usize>,
    /// Sockets that were closed since somebody looked for circles.
    closed: Cell<usize>,
    /// Files whose last message is gone, until they are dropped.
    grave: RefCell<Vec<Rc<OpenFile>>>,
    is_burying: Cell<bool>,
}

/// Files in one message.
#[derive(Debug)]
pub struct InFlight {
    files: Vec<Rc<OpenFile>>,
    network: Rc<Network>,
}

fn is_socket(file: &OpenFile) -> bool {
    matches!(file.object, Object::Socket(_))
}

impl InFlight {
    /// Puts files into a message; `limit` is the sender's RLIMIT_NOFILE.
    ///
    /// # Errors
    /// `ETOOMANYREFS` when there are too many in flight.
    pub fn launch(
        files: Vec<Rc<OpenFile>>,
        network: &Rc<Network>,
        limit: u64,
    ) -> Result<Option<Box<Self>>, Errno> {
        if files.is_empty() {
            return Ok(None);
        }
        let flight = &network.flight;
        if flight.sockets.borrow().len() >= flight.collect_at.get().max(FEW) {
            collect(network);
            flight.collect_at.set(2 * flight.sockets.borrow().len());
        }
        if (flight.count.get() + files.len()) as u64 > limit {
            return Err(Errno::ETOOMANYREFS);
        }
        Ok(Some(Self::of(files, network)))
    }
    fn of(files: Vec<Rc<OpenFile>>, network: &Rc<Network>) -> Box<Self> {
        let flight = &network.flight;
        flight.count.set(flight.count.get() + files.len());
        let mut sockets = flight.sockets.borrow_mut();
        for file in files.iter().filter(|file| is_socket(file)) {
            sockets.entry(file.id).or_insert_with(|| (Rc::downgrade(file), 0)).1 += 1;
        }
        drop(sockets);
        Box::new(Self { files, network: network.clone() })
    }
    /// The same files in a second message (MSG_PEEK gives them out and leaves them there).
    #[must_use]
    pub fn copy(&self) -> Vec<Rc<OpenFile>> {
        self.files.clone()
    }
    /// Takes the files out.
    #[must_use]
    pub fn land(mut self) -> Vec<Rc<OpenFile>> {
        let files = core::mem::take(&mut self.files);
        self.forget(&files);
        files
    }
    fn forget(&self, files: &[Rc<OpenFile>]) {
        let flight = &self.network.flight;
        flight.count.set(flight.count.get().saturating_sub(files.len()));
        let mut sockets = flight.sockets.borrow_mut();
        for file in files.iter().filter(|file| is_socket(file)) {
            if let Some((_, count)) = sockets.get_mut(&file.id) {
                *count -= 1;
                if *count == 0 {
                    sockets.remove(&file.id);
                }
            }
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let files = core::mem::take(&mut self.files);
        if !files.is_empty() {
            self.forget(&files);
            self.network.flight.bury(files);
        }
    }
}

impl Flight {
    /// A socket is closed: whether to look for circles, which costs as much as there are sockets in flight, and so is done once for a share of them.
    #[must_use]
    pub fn is_collection_due(&self) -> bool {
        let in_flight = self.sockets.borrow().len();
        if in_flight == 0 || self.is_burying.get() {
            return false;
        }
        self.closed.set(self.closed.get() + 1);
        let is_due = 8 * self.closed.get() >= in_flight;
        if is_due {
            self.closed.set(0);
        }
        is_due
    }
    /// Drops files, one after the other, whatever they drop in turn.
    fn bury(&self, files: Vec<Rc<OpenFile>>) {
        self.grave.borrow_mut().extend(files);
        if self.is_burying.replace(true) {
            return;
        }
        loop {
            let next = self.grave.borrow_mut().pop();
            let Some(file) = next else { break };
            drop(file);
        }
        self.is_burying.set(false);
    }
}

/// A socket that is referred to by messages only.
struct Candidate {
    file: Rc<OpenFile>,
    /// References in messages of sockets that are no candidates.
    outside: usize,
    is_reachable: bool,
}

/// The sockets in the messages of a socket, and of connections that wait for it to accept them.
fn inside(file: &OpenFile, each: &mut dyn FnMut(u64)) -> bool {
    let Object::Socket(socket) = &file.object else { return true };
    socket.each_inbox(&mut |inbox| {
        inbox.each_flight(&mut |flight: &InFlight| {
            flight.files.iter().filter(|file| is_socket(file)).for_each(|file| each(file.id));
        });
    })
}

/// Frees circles of sockets that nobody can reach.
pub fn collect(network: &Network) {
    let mut candidates: BTreeMap<u64, Candidate> = BTreeMap::new();
    for (id, (file, count)) in &*network.flight.sockets.borrow() {
        if let Some(file) = file.upgrade()
            && Rc::strong_count(&file) == count + 1
        {
            candidates.insert(*id, Candidate { file, outside: *count, is_reachable: false });
        }
    }
    let files: Vec<Rc<OpenFile>> = candidates.values().map(|one| one.file.clone()).collect();
    for file in &files {
        let looked = inside(file, &mut |id| {
            if let Some(candidate) = candidates.get_mut(&id) {
                candidate.outside = candidate.outside.saturating_sub(1);
            }
        });
        if !looked {
            // Somebody is in the middle of a message: another time.
            return;
        }
    }
    let mut reachable: Vec<u64> =
        candidates.iter().filter(|(_, one)| one.outside > 0).map(|(id, _)| *id).collect();
    while let Some(id) = reachable.pop() {
        let Some(candidate) = candidates.get_mut(&id).filter(|one| !one.is_reachable) else {
            continue;
        };
        candidate.is_reachable = true;
        let file = candidate.file.clone();
        inside(&file, &mut |id| reachable.push(id));
    }
    for candidate in candidates.values().filter(|one| !one.is_reachable) {
        if let Object::Socket(socket) = &candidate.file.object {
            Socket::forget_messages(socket);
        }
    }
}
