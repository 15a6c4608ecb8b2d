//! A name server on loopback, over UDP, for all tests: each has names of its own.

use std::{
    collections::HashMap,
    net::{SocketAddr, UdpSocket},
    sync::{LazyLock, Mutex},
    thread,
};

use hickory_proto::{
    op::{Message, ResponseCode},
    rr::{Name, RData, Record, RecordType, rdata::TXT},
};

/// The parts of each TXT record of a name; `None`: it fails.
type Records = Option<Vec<Vec<String>>>;

static ZONE: LazyLock<Mutex<HashMap<String, Records>>> = LazyLock::new(Mutex::default);

static SERVER: LazyLock<SocketAddr> = LazyLock::new(|| {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let address = socket.local_addr().expect("an address");
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok((length, asker)) = socket.recv_from(&mut buffer) {
            let Ok(asked) = Message::from_vec(&buffer[..length]) else { continue };
            let answer = answer(&asked).to_vec().expect("an answer");
            // Whoever asked may be gone.
            let _ = socket.send_to(&answer, asker);
        }
    });
    address
});

/// Where it is asked.
pub(super) fn server() -> SocketAddr {
    *SERVER
}

/// Publishes a TXT record beside those that are there.
pub(super) fn publish(name: &str, parts: &[&str]) {
    let mut zone = ZONE.lock().unwrap();
    let records = zone.entry(name.to_owned()).or_default().get_or_insert_default();
    records.push(parts.iter().map(|part| (*part).to_owned()).collect());
}

/// Fails whenever it is asked for that name.
pub(super) fn fail(name: &str) {
    ZONE.lock().unwrap().insert(name.to_owned(), None);
}

/// Knows nothing of that name.
pub(super) fn forget(name: &str) {
    ZONE.lock().unwrap().remove(name);
}

fn answer(asked: &Message) -> Message {
    let mut answer = Message::response(asked.metadata.id, asked.metadata.op_code);
    let Some(query) = asked.queries.first() else { return answer };
    answer.add_query(query.clone());
    let name: Name = query.name().clone();
    let zone = ZONE.lock().unwrap();
    match zone.get(name.to_ascii().trim_end_matches('.')) {
        None => answer.metadata.response_code = ResponseCode::NXDomain,
        Some(None) => answer.metadata.response_code = ResponseCode::ServFail,
        Some(Some(records)) if query.query_type() == RecordType::TXT => {
            for parts in records {
                let text = RData::TXT(TXT::new(parts.clone()));
                answer.add_answer(Record::from_rdata(name.clone(), 300, text));
            }
        }
        Some(_) => {}
    }
    answer
}
