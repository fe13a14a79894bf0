//! Messages between Domains: Endpoints, Gates, Replies and Notifications.
//!
//! Owns: who waits for whom, the transfer of registers and capabilities, round robin over Gates. Must not know: what the messages say.
//!
//! ```text
//! caller --Call--> Gate --(round robin)--> Endpoint --Receive--> server
//!    ^                                                              |
//!    `------------------- Reply (holds the caller) <----------------'
//! ```
//! A caller is in exactly one of its Gate's two queues from the call to the answer, so that destroying the Gate ends every call made through it.

mod call;
mod endpoint;
mod message;
mod notification;
mod reply;

pub use call::{Reception, call, receive, reply, reply_receive};
pub use endpoint::{Endpoint, Gate};
pub use notification::{Notification, wait};
pub use reply::Reply;
