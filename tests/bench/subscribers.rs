//! Many subscribers of one thing over graphql-transport-ws, on raw sockets. Knows when all of them were told;
//! refuses to know what.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::Notify,
    task::JoinSet,
};

use crate::{Result, client::find};

/// How many connect at the same time.
const AT_ONCE: usize = 50;

/// Subscribers; dropped, they hang up.
pub struct Subscribers {
    told: Arc<Told>,
    tasks: JoinSet<Result<()>>,
}

/// How many messages came, of all subscribers together.
struct Told {
    subscribers: usize,
    messages: AtomicUsize,
    last: Mutex<Instant>,
    all: Notify,
}

impl Told {
    fn one(&self) {
        if (self.messages.fetch_add(1, Ordering::Relaxed) + 1).is_multiple_of(self.subscribers) {
            *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
            self.all.notify_one();
        }
    }
}

/// Opens `number` of them, the tokens taken in turn, each with the subscription of `payload`.
pub async fn open(
    address: SocketAddr,
    tokens: &[String],
    number: usize,
    payload: &Value,
) -> Result<Subscribers> {
    let told = Arc::new(Told {
        subscribers: number,
        messages: AtomicUsize::new(0),
        last: Mutex::new(Instant::now()),
        all: Notify::new(),
    });
    let subscribe = json!({ "type": "subscribe", "id": "1", "payload": payload }).to_string();
    let mut tasks = JoinSet::new();
    for batch in 0..number.div_ceil(AT_ONCE) {
        let places = batch * AT_ONCE..number.min((batch + 1) * AT_ONCE);
        let mut opening = JoinSet::new();
        for place in places {
            let (token, subscribe) = (tokens[place % tokens.len()].clone(), subscribe.clone());
            opening.spawn(async move { Subscriber::open(address, &token, &subscribe).await });
        }
        while let Some(opened) = opening.join_next().await {
            tasks.spawn(opened??.listen(Arc::clone(&told)));
        }
    }
    Ok(Subscribers { told, tasks })
}

impl Subscribers {
    /// Waits until each was told `times` times in all, and gives the moment in which the last one was.
    pub async fn all_told(&self, times: usize) -> Result<Instant> {
        let wanted = times * self.told.subscribers;
        let told = || self.told.messages.load(Ordering::Relaxed);
        let wait = async {
            while told() < wanted {
                self.told.all.notified().await;
            }
        };
        if tokio::time::timeout(Duration::from_secs(5), wait).await.is_err() {
            return Err(format!("{} of {wanted} messages came; {} listen", told(), self.tasks.len()).into());
        }
        Ok(*self.told.last.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

struct Subscriber {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Subscriber {
    async fn open(address: SocketAddr, token: &str, subscribe: &str) -> Result<Self> {
        let mut stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        stream
            .write_all(
                b"GET /graphql/ws HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
                  sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                  sec-websocket-protocol: graphql-transport-ws\r\n\r\n",
            )
            .await?;
        let mut subscriber = Self { stream, buffer: Vec::with_capacity(1024) };
        let head = loop {
            if let Some(end) = find(&subscriber.buffer, b"\r\n\r\n") {
                break end + 4;
            }
            subscriber.more().await?;
        };
        if !subscriber.buffer.starts_with(b"HTTP/1.1 101") {
            return Err(String::from_utf8_lossy(&subscriber.buffer).into());
        }
        subscriber.buffer.drain(..head);
        let bearer = format!("Bearer {token}");
        let init = json!({ "type": "connection_init", "payload": { "authorization": bearer } });
        subscriber.say(&init.to_string()).await?;
        let acknowledged = subscriber.message().await?;
        if !acknowledged.contains(r#""connection_ack""#) {
            return Err(acknowledged.into());
        }
        subscriber.say(subscribe).await?;
        Ok(subscriber)
    }

    async fn listen(mut self, told: Arc<Told>) -> Result<()> {
        loop {
            let message = self.message().await?;
            if message.contains(r#""type":"next""#) && !message.contains(r#""errors""#) {
                told.one();
            } else if message.contains(r#""type":"ping""#) {
                self.say(r#"{"type":"pong"}"#).await?;
            } else {
                eprintln!("a subscriber was told: {message}");
            }
        }
    }

    async fn say(&mut self, text: &str) -> Result<()> {
        self.frame(0x1, text.as_bytes()).await
    }

    /// Clients must mask; a mask of zeros leaves the bytes as they are.
    async fn frame(&mut self, kind: u8, payload: &[u8]) -> Result<()> {
        let mut frame = vec![0x80 | kind];
        match u8::try_from(payload.len()) {
            Ok(length @ ..126) => frame.push(0x80 | length),
            _ => {
                frame.push(0x80 | 126);
                frame.extend_from_slice(&u16::try_from(payload.len())?.to_be_bytes());
            }
        }
        frame.extend_from_slice(&[0; 4]);
        frame.extend_from_slice(payload);
        Ok(self.stream.write_all(&frame).await?)
    }

    /// The next text. The server never cuts one into pieces.
    async fn message(&mut self) -> Result<String> {
        loop {
            while self.buffer.len() < 2 {
                self.more().await?;
            }
            let (kind, short) = (self.buffer[0] & 0xf, self.buffer[1]);
            let head = match short {
                126 => 4,
                127.. => return Err("a message longer than 64 KiB".into()),
                _ => 2,
            };
            while self.buffer.len() < head {
                self.more().await?;
            }
            let length = match short {
                126 => u16::from_be_bytes([self.buffer[2], self.buffer[3]]).into(),
                _ => usize::from(short),
            };
            while self.buffer.len() < head + length {
                self.more().await?;
            }
            let payload: Vec<u8> = self.buffer.drain(..head + length).skip(head).collect();
            match kind {
                0x1 => return Ok(String::from_utf8(payload)?),
                0x8 => return Err(format!("closed: {}", String::from_utf8_lossy(&payload)).into()),
                0x9 => self.frame(0xa, &payload).await?,
                _ => {}
            }
        }
    }

    async fn more(&mut self) -> Result<()> {
        match self.stream.read_buf(&mut self.buffer).await? {
            0 => Err("the server closed the socket".into()),
            _ => Ok(()),
        }
    }
}
