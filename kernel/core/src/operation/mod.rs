//! Performing operations: decode, check, then act.
//!
//! Each group of operations is a module. A function takes the `Request`, reads and checks its arguments, and only then changes anything. A
//! result of `Ok(None)` means that the registers hold, or later get, what the operation returns.

mod capabilities;
mod domains;
mod hardware;
mod messages;
mod spaces;
mod threads;

pub use capabilities::destroy_object;
pub use hardware::Hardware;

use crate::{
    counter::{self, Counter},
    domain::{Capability, Domain},
    reaper,
    thread::{Thread, wait},
};
use kernel_abi::{Error, Operation, Rights};
use kernel_machine::{
    Reg,
    object::{AnyRef, Borrow, Entry, Object, Ref},
};

/// Registers of the arguments, in order.
const ARGUMENTS: [Reg; 6] = [Reg::Rdi, Reg::Rsi, Reg::Rdx, Reg::R10, Reg::R8, Reg::R9];

/// An operation under way.
#[derive(Clone, Copy)]
struct Request<'e> {
    thread: Borrow<'e, Thread>,
    entry: &'e Entry,
}

/// What an operation returns in `rax`, or nothing if the registers are (or will be) written otherwise.
type Outcome = Result<Option<u64>, Error>;

impl<'e> Request<'e> {
    fn argument(self, index: usize) -> u64 {
        ARGUMENTS.get(index).map_or(0, |register| self.thread.context.get(*register))
    }
    /// The thread as a counted reference.
    fn thread(self) -> Result<Ref<Thread>, Error> {
        self.thread.to_ref().ok_or(Error::NoCapability)
    }
    fn own_domain(self) -> Borrow<'e, Domain> {
        self.thread.value().domain().protect(self.entry)
    }
    /// The capability in the slot that an argument names.
    fn capability(self, index: usize) -> Result<Capability<'e>, Error> {
        self.own_domain().value().lookup(self.argument(index), self.entry)
    }
    /// The object that an argument names, if the capability has certain rights.
    fn object<T: Object>(self, index: usize, rights: Rights) -> Result<Borrow<'e, T>, Error> {
        self.capability(index)?.get(rights)
    }
    /// The same as a counted reference.
    fn reference<T: Object>(self, index: usize, rights: Rights) -> Result<Ref<T>, Error> {
        self.object::<T>(index, rights)?.to_ref().ok_or(Error::NoCapability)
    }
    /// A Domain argument: 0 is the caller's own, with all rights but that to destroy it.
    fn domain(self, index: usize, rights: Rights) -> Result<Borrow<'e, Domain>, Error> {
        if self.argument(index) == 0 {
            if rights.contains(Rights::DESTROY) { Err(Error::MissingRight) } else { Ok(self.own_domain()) }
        } else {
            self.object(index, rights)
        }
    }
    /// The Domain that a new object is charged to.
    fn payer(self, index: usize) -> Result<Ref<Domain>, Error> {
        self.domain(index, Rights::CREATE)?.to_ref().ok_or(Error::DomainDead)
    }
    /// Checks the slot that an argument names for a new capability of the caller.
    fn prepare_slot(self, index: usize) -> Result<u64, Error> {
        let slot = self.argument(index);
        Domain::prepare_slot(self.own_domain(), slot, self.entry)?;
        Ok(slot)
    }
    /// Puts a new object's capability into a prepared slot.
    fn install(self, slot: u64, object: AnyRef) -> Result<(), Error> {
        let created = object.clone();
        let installed = Domain::install(self.own_domain(), slot, object, Rights::ALL, self.entry);
        if installed.is_err() {
            destroy_object(created.borrow(), self.entry);
        }
        installed
    }
    /// Writes the second and third result.
    fn more(self, rdx: u64, rdi: u64) {
        self.thread.context.set(Reg::Rdx, rdx);
        self.thread.context.set(Reg::Rdi, rdi);
    }
}

/// Performs the operation in a thread's registers.
pub fn perform(thread: Borrow<'_, Thread>, entry: &Entry) {
    counter::add(Counter::Operations, 1);
    let request = Request { thread, entry };
    let outcome = match Operation::from_number(thread.context.get(Reg::Rax)) {
        Some(operation) => dispatch(operation, request),
        None => Err(Error::UnknownOperation),
    };
    match outcome {
        Ok(Some(value)) => thread.context.set(Reg::Rax, value),
        Ok(None) => {}
        Err(error) => {
            if matches!(error, Error::OutOfFrames | Error::OutOfObjects) && reaper::is_pending() {
                // What dead objects hold comes back, so that another attempt may succeed.
                reaper::work(entry);
            }
            thread.context.set(Reg::Rax, wait::encode(Err(error)));
        }
    }
}

fn dispatch(operation: Operation, request: Request<'_>) -> Outcome {
    match operation {
        Operation::ThreadYield => threads::thread_yield(),
        Operation::ThreadExit => threads::exit(request),
        Operation::ThreadPark => threads::park(request),
        Operation::GuestEnter => threads::guest_enter(request),
        Operation::GuestAttach => threads::guest_attach(request),
        Operation::FaultReturn => threads::fault_return(request),
        Operation::FaultHandler => threads::fault_handler(request),
        Operation::Log => threads::log(request),
        Operation::Clock => threads::clock(request),
        Operation::Random => threads::random(request),
        Operation::CapCopy => capabilities::copy(request),
        Operation::CapDelete => capabilities::delete(request),
        Operation::CapNext => capabilities::next(request),
        Operation::ObjectDestroy => capabilities::destroy(request),
        Operation::DomainCreate => domains::create(request),
        Operation::DomainBudget => domains::budget(request),
        Operation::DomainSchedule => domains::schedule(request),
        Operation::DomainStat => domains::stat(request),
        Operation::DomainWatch => domains::watch(request),
        Operation::SpaceCreate => spaces::create(request),
        Operation::SpaceZero => spaces::zero(request),
        Operation::SpaceMap => spaces::map(request),
        Operation::SpaceProtect => spaces::protect(request),
        Operation::SpaceUnmap => spaces::unmap(request),
        Operation::SpaceFreeze => spaces::freeze(request),
        Operation::SpaceQuery => spaces::query(request),
        Operation::SpacePin => spaces::pin(request),
        Operation::SpaceCopy => spaces::copy(request),
        Operation::SpaceResolve => spaces::resolve(request),
        Operation::SpaceDiscard => spaces::discard(request),
        Operation::ThreadCreate => threads::create(request),
        Operation::ThreadStart => threads::start(request),
        Operation::ThreadKick => threads::kick(request),
        Operation::ThreadUnpark => threads::unpark(request),
        Operation::ThreadAffinity => threads::affinity(request),
        Operation::ThreadStat => threads::stat(request),
        Operation::EndpointCreate => messages::endpoint_create(request),
        Operation::GateCreate => messages::gate_create(request),
        Operation::ReplyCreate => messages::reply_create(request),
        Operation::Call => messages::call(request),
        Operation::Receive => messages::receive(request),
        Operation::Reply => messages::reply(request),
        Operation::ReplyReceive => messages::reply_receive(request),
        Operation::NotificationCreate => messages::notification_create(request),
        Operation::NotificationSignal => messages::notification_signal(request),
        Operation::NotificationWait => messages::notification_wait(request),
        Operation::HardwareMemory => hardware::memory(request),
        Operation::IrqCreate => hardware::irq_create(request),
        Operation::IrqAck => hardware::irq_ack(request),
        Operation::HardwareInfo => hardware::info(request),
        Operation::HardwarePower => hardware::power(request),
        Operation::PortAccess => hardware::port(request),
        Operation::KernelCounter => hardware::counter(request),
    }
}
