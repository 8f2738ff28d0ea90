//! The promises that every state must keep, compared with what the surviving commits of the sender said.

use super::list::List;
use super::redis::Redis;
use super::setting::Setting;
use super::words::Message;

/// A promise that a step broke.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Broken {
    /// A message stands in two places, or twice in one.
    Doubled(u8),
    /// A message was sent in this history and is nowhere.
    Lost(u8),
    /// A message overtook another.
    Reordered(u8),
    /// What was put out is not what this history's sender said.
    Foreign(u8),
    /// The sender's state does not agree with what it sent.
    Cursor { cursor: u8, sent: u8 },
    /// A former holder wrote.
    StaleHolder,
    /// The stream's last id lies behind the offset: the answer would be BROKEN.
    OffsetAhead { offset: u8, last_id: u8 },
    /// A message without fault was dead-lettered.
    Innocent(u8),
}

/// Out, dead and the mailbox hold exactly what the surviving sender sent: messages 1 to the cursor, once, in order.
pub fn check(setting: &Setting, redis: &Redis) -> Result<(), Broken> {
    for (message, number) in redis.sent.iter().zip(1..) {
        if message.number != number {
            let doubled = message.number < number;
            return Err(if doubled { Broken::Doubled(message.number) } else { Broken::Lost(number) });
        }
    }
    if redis.cursor as usize != redis.sent.len() {
        return Err(Broken::Cursor { cursor: redis.cursor, sent: redis.sent.len() as u8 });
    }
    let waiting: List<Message, 6> = redis.mailbox.iter().map(|entry| entry.message).collect();
    for sent in redis.sent.iter() {
        let places = [&redis.out, &redis.dead, &waiting];
        let same = |message: &&Message| message.number == sent.number;
        match places.iter().map(|place| place.iter().filter(same).count()).sum() {
            0 => return Err(Broken::Lost(sent.number)),
            1 => {}
            2.. => return Err(Broken::Doubled(sent.number)),
        }
    }
    for message in redis.out.iter().chain(redis.dead.iter()).chain(waiting.iter()) {
        if !redis.sent.iter().any(|sent| sent == message) {
            return Err(Broken::Foreign(message.number));
        }
    }
    if redis.offset > redis.last_id {
        return Err(Broken::OffsetAhead { offset: redis.offset, last_id: redis.last_id });
    }
    check_order(setting, redis, &waiting)
}

fn check_order(setting: &Setting, redis: &Redis, waiting: &List<Message, 6>) -> Result<(), Broken> {
    for done in [&redis.out, &redis.dead] {
        let both: Vec<u8> = done.iter().chain(waiting.iter()).map(|message| message.number).collect();
        if let Some(pair) = both.windows(2).find(|pair| pair[0] > pair[1] && !setting.sends_to_itself) {
            return Err(Broken::Reordered(pair[0]));
        }
    }
    let poisoned = setting.poison.map_or(0, |(number, _)| number);
    match redis.dead.iter().find(|message| message.number != poisoned) {
        Some(innocent) => Err(Broken::Innocent(innocent.number)),
        None => Ok(()),
    }
}
