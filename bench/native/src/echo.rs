//! The other end of a measured call: answers every message with an empty one.
#![cfg_attr(target_os = "none", no_std, no_main)]

use rt::{
    Endpoint,
    message::{Message, Server},
    startup,
};

rt::entry!(main);

fn main() {
    if let Err(error) = serve() {
        rt::log!("WARN echo: {error:?}");
    }
}

fn serve() -> rt::Result<()> {
    let endpoint = startup::capability("echo").map(Endpoint).ok_or(rt::Error::NotPresent)?;
    let server = Server::new(endpoint, None)?;
    let mut received = server.receive(rt::object::FOREVER);
    loop {
        received = match received {
            Ok(_) => server.reply_and_receive(Message::new(0, [0; 4])),
            Err(rt::Error::Kicked) => server.receive(rt::object::FOREVER),
            Err(error) => return Err(error),
        }
    }
}
