//! epoll(7): interest lists.
//!
//! An interest observes the queues of its file. When one of its events happens it puts itself on the instance's list of what may be ready; a wait looks
//! through that list only. So a wait costs what is ready, whatever the number of files.
//!
//! ```text
//! queue of a file --happened--> Interest --on the ready list, once--> Epoll::ready --queue--> waiting threads, interests of outer instances
//! ```
//! Instances can watch each other `MAX_NESTING` deep and never in a circle, which bounds how far a happening travels. Times (timerfd) do not happen by themselves:
//! the waiting thread looks at them ([`Epoll::tick`]) and comes back at the earliest.

use super::{Object, OpenFile};
use crate::{
    linux::{EPOLLET, EPOLLEXCLUSIVE, EPOLLONESHOT, Errno, POLLERR, POLLHUP, POLLIN, POLLRDNORM},
    wait::{Observer, WaitQueue, Waiter},
};
use alloc::{
    collections::{BTreeMap, VecDeque},
    rc::{Rc, Weak},
    vec::Vec,
};
use core::cell::{Cell, RefCell};

/// Instances below each other, the outermost included.
const MAX_NESTING: usize = 5;
/// Operations of epoll_ctl(2).
pub const ADD: u64 = 1;
/// Remove.
pub const DELETE: u64 = 2;
/// Change.
pub const MODIFY: u64 = 3;

/// One file of interest.
#[derive(Debug)]
struct Interest {
    file: Weak<OpenFile>,
    owner: Weak<Epoll>,
    /// Events that were asked for, with those that always are.
    events: Cell<u32>,
    data: Cell<u64>,
    /// It is on the ready list.
    is_listed: Cell<bool>,
    /// EPOLLONESHOT: it was reported and waits to be changed.
    is_spent: Cell<bool>,
}

impl Observer for Interest {
    fn happened(self: Rc<Self>, events: u32) {
        if self.is_spent.get() || self.events.get() & events == 0 {
            return;
        }
        if let Some(owner) = self.owner.upgrade() {
            owner.list(&self);
        }
    }
}

impl Interest {
    /// The events it would report now.
    fn mask(&self, poll: &dyn Fn(&OpenFile) -> u32) -> u32 {
        match self.file.upgrade() {
            Some(file) if !self.is_spent.get() => poll(&file) & self.events.get(),
            _ => 0,
        }
    }
}

/// A file under a descriptor: what epoll(7) calls a registration.
type Key = (i32, u64);

/// An epoll instance.
#[derive(Debug, Default)]
pub struct Epoll {
    interests: RefCell<BTreeMap<Key, Rc<Interest>>>,
    /// Interests of files that are gone leave when there are this many.
    sweep_at: Cell<usize>,
    ready: RefCell<VecDeque<Rc<Interest>>>,
    /// Interests whose files become ready with time.
    timed: RefCell<Vec<Weak<Interest>>>,
    /// Those who wait.
    pub queue: WaitQueue,
}

/// Whether a file becomes ready with time.
fn is_timed(file: &OpenFile) -> bool {
    matches!(file.object, Object::Timer(_) | Object::Epoll(_))
}

impl Epoll {
    /// Adds, changes or removes a file. What was added is returned as an observer, for queues that the file does not know.
    ///
    /// # Errors
    /// `EEXIST`, `ENOENT`, `EINVAL`, `ELOOP`.
    pub fn control(
        self: &Rc<Self>,
        operation: u64,
        fd: i32,
        file: &Rc<OpenFile>,
        events: u32,
        data: u64,
        poll: &dyn Fn(&OpenFile) -> u32,
    ) -> Result<Option<Weak<dyn Observer>>, Errno> {
        let key = (fd, file.id);
        let found = self.interests.borrow().get(&key).cloned();
        match (operation, found) {
            (ADD, Some(_)) => Err(Errno::EEXIST),
            (ADD, None) => self.add(key, file, events, data, poll).map(Some),
            (DELETE, Some(interest)) => {
                self.remove(key, file, &interest);
                Ok(None)
            }
            (MODIFY, Some(interest)) => {
                if (events | interest.events.get()) & EPOLLEXCLUSIVE != 0 {
                    return Err(Errno::EINVAL);
                }
                interest.events.set(events | POLLERR | POLLHUP);
                interest.data.set(data);
                interest.is_spent.set(false);
                if interest.mask(poll) != 0 {
                    self.list(&interest);
                }
                Ok(None)
            }
            (DELETE | MODIFY, None) => Err(Errno::ENOENT),
            _ => Err(Errno::EINVAL),
        }
    }

    fn add(
        self: &Rc<Self>,
        key: Key,
        file: &Rc<OpenFile>,
        events: u32,
        data: u64,
        poll: &dyn Fn(&OpenFile) -> u32,
    ) -> Result<Weak<dyn Observer>, Errno> {
        if let Object::Epoll(inner) = &file.object {
            if events & EPOLLEXCLUSIVE != 0 {
                return Err(Errno::EINVAL);
            }
            if inner.depth_without(self, MAX_NESTING).is_none_or(|depth| depth >= MAX_NESTING) {
                return Err(Errno::ELOOP);
            }
        }
        self.sweep();
        let interest = Rc::new(Interest {
            file: Rc::downgrade(file),
            owner: Rc::downgrade(self),
            events: Cell::new(events | POLLERR | POLLHUP),
            data: Cell::new(data),
            is_listed: Cell::new(false),
            is_spent: Cell::new(false),
        });
        let observer: Weak<dyn Observer> = Rc::<Interest>::downgrade(&interest);
        file.each_queue(|queue| queue.observe(observer.clone()));
        self.interests.borrow_mut().insert(key, interest.clone());
        if is_timed(file) {
            self.timed.borrow_mut().push(Rc::downgrade(&interest));
            // Whoever waits has to learn of a new deadline.
            self.queue.wake();
        }
        if interest.mask(poll) != 0 {
            self.list(&interest);
        }
        Ok(observer)
    }

    fn remove(&self, key: Key, file: &OpenFile, interest: &Rc<Interest>) {
        let observer: Weak<dyn Observer> = Rc::<Interest>::downgrade(interest);
        file.each_queue(|queue| queue.ignore(&observer));
        self.interests.borrow_mut().remove(&key);
        if interest.is_listed.get() {
            self.ready.borrow_mut().retain(|listed| !Rc::ptr_eq(listed, interest));
        }
    }

    /// Forgets interests in files that are gone, once they may be many.
    fn sweep(&self) {
        let mut interests = self.interests.borrow_mut();
        if interests.len() < self.sweep_at.get() {
            return;
        }
        interests.retain(|_, interest| interest.file.strong_count() > 0);
        self.sweep_at.set(2 * interests.len() + 16);
        self.timed.borrow_mut().retain(|interest| interest.strong_count() > 0);
    }

    /// How deep instances lie below this one; `None` when one of them is `other`, or when it is deeper than a limit.
    fn depth_without(&self, other: &Rc<Self>, limit: usize) -> Option<usize> {
        if core::ptr::eq(self, Rc::as_ptr(other)) || limit == 0 {
            return None;
        }
        let mut deepest = 1;
        for interest in self.timed.borrow().iter().filter_map(Weak::upgrade) {
            if let Some(file) = interest.file.upgrade()
                && let Object::Epoll(inner) = &file.object
            {
                deepest = deepest.max(1 + inner.depth_without(other, limit - 1)?);
            }
        }
        Some(deepest)
    }

    /// Puts an interest on the ready list.
    fn list(&self, interest: &Rc<Interest>) {
        let is_new = !interest.is_listed.replace(true);
        if is_new {
            self.ready.borrow_mut().push_back(interest.clone());
            // One that is listed was told before: outer instances hear of each interest once, however they are knotted.
            self.queue.tell_observers(POLLIN | POLLRDNORM);
        }
        self.queue.wake_waiters(POLLIN | POLLRDNORM);
    }

    /// Looks at what becomes ready with time; when to look again.
    pub fn tick(&self) -> u64 {
        let timed = self.timed.borrow();
        timed
            .iter()
            .filter_map(|interest| interest.upgrade()?.file.upgrade())
            .map(|file| file.tick())
            .min()
            .unwrap_or(u64::MAX)
    }

    /// Files that are ready: events and data, `limit` at most.
    pub fn take_ready(
        &self,
        limit: usize,
        poll: &dyn Fn(&OpenFile) -> u32,
        mut each: impl FnMut(u32, u64) -> Result<(), Errno>,
    ) -> Result<usize, Errno> {
        let mut count = 0;
        // One turn looks at those that are listed now. When none of them is ready any more, looking at them may have listed others.
        while count == 0 {
            let turn = self.ready.borrow().len();
            if turn == 0 {
                break;
            }
            for _ in 0..turn {
                if count == limit {
                    return Ok(count);
                }
                let Some(interest) = self.ready.borrow_mut().pop_front() else { break };
                interest.is_listed.set(false);
                let mask = interest.mask(poll);
                if mask == 0 {
                    continue;
                }
                if let Err(errno) = each(mask, interest.data.get()) {
                    // Nobody has been told of it, so it is the next that is.
                    let mut ready = self.ready.borrow_mut();
                    if interest.is_listed.replace(true) {
                        // Asking for its mask has listed it again.
                        ready.retain(|other| !Rc::ptr_eq(other, &interest));
                    }
                    ready.push_front(interest);
                    return if count == 0 { Err(errno) } else { Ok(count) };
                }
                count += 1;
                let events = interest.events.get();
                if events & EPOLLONESHOT != 0 {
                    interest.is_spent.set(true);
                } else if events & EPOLLET == 0 && !interest.is_listed.replace(true) {
                    // A level stays until it is seen to be gone, behind the others so that all get their turn.
                    self.ready.borrow_mut().push_back(interest);
                }
            }
        }
        Ok(count)
    }

    /// What poll(2) says: whether a wait would return at once.
    #[must_use]
    pub fn poll(&self) -> u32 {
        self.tick();
        loop {
            // Looking at a file may put others on the list.
            let Some(first) = self.ready.borrow().front().cloned() else { return 0 };
            if first.mask(&OpenFile::poll) != 0 {
                return POLLIN | POLLRDNORM;
            }
            first.is_listed.set(false);
            self.ready.borrow_mut().retain(|listed| !Rc::ptr_eq(listed, &first));
        }
    }

    /// Joins those who wait for it.
    pub fn join(&self, waiter: Waiter) {
        self.queue.join_for(waiter, POLLIN);
    }
}
