//! Fault sweeps: the Nth charge on the way to a new compartment fails, for every N, and a port comes in every wrong manner. Each time the ledger is exactly
//! as it was, and the next compartment can be made.
//!
//! The injector is a budget: before each attempt a Domain's limit is set to what it uses and N more, until the attempt succeeds.

use crate::{
    Arena,
    board::ROUNDS,
    client::Manner,
    ledger::Ledger,
    matches::{Case, Outcome, budget},
};
use alloc::{format, string::String};
use contract::compartments::{Budget, Create, Request, Response};
use rt::{
    Domain,
    abi::resource::{Resource, UNLIMITED},
};

/// Cases by name.
pub(crate) const CASES: &[Case] = &[
    ("frames_run_out_in_creation", |arena| sweep(arena, compartments, Resource::Frames)),
    ("objects_run_out_in_creation", |arena| sweep(arena, compartments, Resource::Objects)),
    ("slots_run_out_in_creation", |arena| sweep(arena, compartments, Resource::Slots)),
    ("threads_run_out_in_creation", |arena| sweep(arena, compartments, Resource::Threads)),
    ("frames_of_the_service_run_out", |arena| sweep(arena, service, Resource::Frames)),
    ("objects_of_the_service_run_out", |arena| sweep(arena, service, Resource::Objects)),
    ("slots_of_the_service_run_out", |arena| sweep(arena, service, Resource::Slots)),
    ("frames_of_a_tenant_run_out", tenant),
    ("ports_in_wrong_manners", manners),
    ("requests_that_are_refused", refused),
];

/// Attempts after which a sweep has failed.
const POINTS: u64 = 4096;
/// Nanoseconds within which a victim works or is gone.
const PATIENCE: u64 = 20_000_000_000;

/// The tenant of these cases.
const TENANT: u64 = 1;

/// What became of an attempt.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Refused,
    /// Its program found too little and ended.
    Died,
    Works,
}

fn compartments(arena: &Arena) -> Domain {
    arena.accounts.compartments
}

fn service(arena: &Arena) -> Domain {
    arena.accounts.service
}

/// Tries to have a victim until it works, and lets it go.
fn attempt(arena: &Arena, create: Create) -> Result<End, String> {
    let Ok(victim) = arena.client.attempt(create)? else { return Ok(End::Refused) };
    let works = || victim.board.get(ROUNDS) > 2;
    if !arena.client.wait(PATIENCE, || works() || arena.client.is_gone(&victim)) {
        return Err(format!("it neither works nor dies: {:?}", arena.client.stat(&victim)));
    }
    let end = if works() { End::Works } else { End::Died };
    arena.client.destroy(victim)?;
    Ok(end)
}

/// One attempt, after which everything is as it was before.
fn exact(arena: &Arena, before: Ledger, create: Create) -> Result<End, String> {
    let end = attempt(arena, create)?;
    before.settle(arena)?;
    Ok(end)
}

fn victim(arena: &Arena) -> Create {
    arena.client.create_request("victim", budget())
}

/// Attempts with one more of a resource each time; how they ended.
fn sweep(arena: &Arena, of: fn(&Arena) -> Domain, resource: Resource) -> Outcome {
    let domain = of(arena);
    attempt(arena, victim(arena))?;
    let before = Ledger::settled(arena);
    let limit = |limit| {
        let set = domain.set_limit(resource, limit);
        set.map_err(|error| format!("the limit cannot be set: {error:?}"))
    };
    climb(|more| {
        let used = domain.stat(resource).map_or(0, |of| of.used);
        limit(used + more)?;
        let end = attempt(arena, victim(arena));
        limit(UNLIMITED)?;
        before.settle(arena).map_err(|why| format!("with {more} more: {why}"))?;
        end.map_err(|why| format!("with {more} more: {why}"))
    })
}

/// Counts how attempts end, until one works.
fn climb(mut attempt: impl FnMut(u64) -> Result<End, String>) -> Outcome {
    let (mut refused, mut died) = (0, 0);
    for more in 0..POINTS {
        match attempt(more)? {
            End::Works => return Ok(format!("{refused} refused, {died} died, {more} are enough")),
            End::Refused => refused += 1,
            End::Died => died += 1,
        }
    }
    Err(format!("{POINTS} are not enough"))
}

/// The same with the limit of a tenant, as whoever owns it would set it.
fn tenant(arena: &Arena) -> Outcome {
    const LEAST: u64 = contract::compartments::LEAST_MEMORY;
    let clean = Ledger::settled(arena);
    let limited = |bytes| Budget { memory: Some(bytes), ..Budget::default() };
    done(arena, &Request::CreateTenant { id: TENANT, budget: limited(LEAST) })?;
    // So much is used by one that lives in it that the rest is the sweep's to vary.
    let member =
        |role: &str| Create { tenant: TENANT, ..arena.client.create_request(role, budget()) };
    let hog = arena.client.attempt(member("keep_all_memory"))??;
    if !arena.client.wait(PATIENCE, || hog.board.get(ROUNDS) > 2) {
        return Err(format!("the tenant is not full: {:?}", arena.client.stat(&hog)));
    }
    let before = use_of_tenant(arena)?;
    let figures = climb(|more| {
        let bytes = LEAST + more * rt::abi::PAGE_SIZE;
        done(arena, &Request::UpdateTenant { id: TENANT, budget: limited(bytes) })?;
        let end = attempt(arena, member("victim"))?;
        if arena.client.wait(PATIENCE, || use_of_tenant(arena) == Ok(before)) {
            return Ok(end);
        }
        Err(format!("with {more} more: {before:?} became {:?}", use_of_tenant(arena)))
    })?;
    arena.client.destroy(hog)?;
    done(arena, &Request::RemoveTenant { id: TENANT })?;
    clean.settle(arena)?;
    Ok(figures)
}

/// What is used in the tenant: bytes, objects, slots, threads.
fn use_of_tenant(arena: &Arena) -> Result<[u64; 4], String> {
    match arena.client.say(&Request::StatTenant { id: TENANT })? {
        Response::Stat(stat) => Ok([stat.memory.0, stat.objects, stat.slots, stat.threads.0]),
        response => Err(format!("no figures: {response:?}")),
    }
}

fn done(arena: &Arena, request: &Request) -> Result<(), String> {
    match arena.client.say(request)? {
        Response::Done => Ok(()),
        response => Err(format!("not done: {response:?}")),
    }
}

/// The control service fails in every way it can.
fn manners(arena: &Arena) -> Outcome {
    let before = Ledger::settled(arena);
    for manner in Manner::WRONG {
        arena.client.behave(manner);
        let end = exact(arena, before, victim(arena));
        arena.client.behave(Manner::Right);
        match end.map_err(|why| format!("{manner:?}: {why}"))? {
            End::Refused => {}
            _ => return Err(format!("{manner:?}: a compartment was made all the same")),
        }
    }
    match exact(arena, before, victim(arena))? {
        End::Works => Ok(format!("{} manners", Manner::WRONG.len())),
        _ => Err("afterwards none can be made".into()),
    }
}

/// Requests that nobody can fulfil.
fn refused(arena: &Arena) -> Outcome {
    // The first time what the requests are written into grows.
    refusals(arena, None)?;
    let before = Ledger::settled(arena);
    refusals(arena, Some(before))
}

fn refusals(arena: &Arena, before: Option<Ledger>) -> Outcome {
    let (creates, others) = (hopeless_creates(arena), hopeless_requests());
    let count = creates.len() + others.len();
    for create in creates {
        let what = format!("{:?}, {} layers", create.budget, create.layers.len());
        if attempt(arena, create)? != End::Refused {
            return Err(format!("not refused: {what}"));
        }
        before.map_or(Ok(()), |before| before.settle(arena))?;
    }
    for request in others {
        match arena.client.say(&request)? {
            Response::Refused(_) => {}
            other => return Err(format!("{request:?} is not refused: {other:?}")),
        }
    }
    before.map_or(Ok(()), |before| before.settle(arena))?;
    Ok(format!("{count} requests"))
}

fn hopeless_creates(arena: &Arena) -> [Create; 8] {
    let digest = [0xa5; 32];
    let with = |change: &dyn Fn(&mut Create)| {
        let mut create = victim(arena);
        change(&mut create);
        create
    };
    [
        with(&|create| create.layers.push(digest)),
        with(&|create| create.layers.resize(200, digest)),
        with(&|create| create.budget.memory = Some(4096)),
        with(&|create| create.budget.cpu_set = Some(0)),
        with(&|create| create.budget.cpu_set = Some(1 << 63)),
        with(&|create| create.budget.cpu_weight = Some(0)),
        with(&|create| create.budget.cpu_millis = Some(u64::MAX)),
        with(&|create| create.tenant = 99),
    ]
}

fn hopeless_requests() -> [Request; 8] {
    [
        Request::Destroy { id: u64::MAX },
        Request::Update { id: u64::MAX, budget: budget() },
        Request::Stat { id: 0 },
        Request::Capabilities { id: u64::MAX, from: u32::MAX },
        Request::CreateTenant { id: 0, budget: budget() },
        Request::UpdateTenant { id: 99, budget: budget() },
        Request::StatTenant { id: 99 },
        Request::RemoveTenant { id: 99 },
    ]
}
