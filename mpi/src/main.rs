//! The command line of entropysum as a job of MPI: `mpirun -n 8 entropysum-mpi fit points.npy -k 16`.
//!
//! The main thread carries messages, and a second thread runs the command. If ranks have files of their own, a third thread answers the
//! questions of other ranks.

use entropysum::cli;
use entropysum::error::{Error, Result};
use entropysum::ranks::{Answer, Answers, Ranks};
use mpi::Threading;
use mpi::topology::SimpleCommunicator;
use mpi::traits::{Communicator, Destination, MatchedReceiveVec, Source};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Bytes of a message of MPI at most: it counts them by 32 bits.
const PIECE: usize = 1 << 30;

/// Tags of messages between commands, of questions, and of answers.
const MESSAGE: i32 = 0;
const QUESTION: i32 = 1;
const ANSWER: i32 = 2;

/// Time after which a rank looks for questions again.
const PAUSE: Duration = Duration::from_micros(200);

/// Work for the thread that speaks MPI.
enum Request {
    Send(usize, Vec<u8>),
    Receive(usize),
    Abort(i32),
    Done(ExitCode),
}

/// The processes of a job. Its requests go to the thread that speaks MPI.
#[derive(Debug)]
struct World {
    rank: usize,
    size: usize,
    local_size: usize,
    post: Mutex<(Sender<Request>, Receiver<Vec<u8>>)>,
    desk: Arc<Desk>,
    /// Held by the thread that waits for an answer.
    asking: Mutex<()>,
}

/// What answers the questions of other ranks.
#[derive(Debug)]
struct Desk {
    answers: Answers,
    /// Whether threads may call MPI at the same time.
    is_possible: bool,
    is_closed: AtomicBool,
    clerk: Mutex<Option<JoinHandle<()>>>,
}

impl World {
    /// Hands a request to the thread that speaks MPI, and waits for its end. Returns the message that was received, or no bytes.
    fn request(&self, request: Request) -> Result<Vec<u8>> {
        let post = self.post.lock().unwrap_or_else(PoisonError::into_inner);
        let gone = || Error::Config("MPI has ended before the command".to_owned());
        post.0.send(request).map_err(|_| gone())?;
        post.1.recv().map_err(|_| gone())
    }
}

impl Ranks for World {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn local_size(&self) -> usize {
        self.local_size
    }

    fn abort(&self, code: i32) -> ! {
        let _ = self.request(Request::Abort(code));
        std::process::exit(code)
    }

    fn send(&self, to: usize, message: &[u8]) -> Result<()> {
        self.request(Request::Send(to, message.to_vec())).map(drop)
    }

    fn receive(&self, from: usize, message: &mut Vec<u8>) -> Result<()> {
        *message = self.request(Request::Receive(from))?;
        Ok(())
    }

    fn serve(&self, answer: Answer) -> Result<usize> {
        if !self.desk.is_possible {
            let message = "this MPI lets one thread call it at a time: files of single ranks need another one";
            return Err(Error::Config(message.to_owned()));
        }
        let number = self.desk.answers.add(answer);
        let mut clerk = self.desk.clerk.lock().unwrap_or_else(PoisonError::into_inner);
        clerk.get_or_insert_with(|| {
            let desk = self.desk.clone();
            thread::spawn(move || desk.serve())
        });
        Ok(number)
    }

    fn ask(&self, rank: usize, number: usize, question: &[u8]) -> Result<Vec<u8>> {
        let _alone = self.asking.lock().unwrap_or_else(PoisonError::into_inner);
        let world = SimpleCommunicator::world();
        let question = [&(number as u64).to_le_bytes(), question].concat();
        world.process_at_rank(rank as i32).send_with_tag(&question[..], QUESTION);
        Ok(receive(&world, rank, ANSWER))
    }
}

impl Desk {
    /// Ends the answers, before MPI ends.
    fn close(&self) {
        self.is_closed.store(true, Ordering::SeqCst);
        let clerk = self.clerk.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(clerk) = clerk {
            // A panic has told of itself.
            let _ = clerk.join();
        }
    }

    /// Answers questions until the command has ended.
    fn serve(&self) {
        let world = SimpleCommunicator::world();
        while !self.is_closed.load(Ordering::SeqCst) {
            let question = world.any_process().immediate_matched_probe_with_tag(QUESTION);
            let Some(question) = question else {
                thread::sleep(PAUSE);
                continue;
            };
            let (question, status) = question.matched_receive_vec::<u8>();
            if let Some((number, question)) = question.split_first_chunk::<8>() {
                let answer = self.answers.answer(u64::from_le_bytes(*number) as usize, question);
                send(&world, status.source_rank() as usize, &answer, ANSWER);
            }
        }
    }
}

fn main() -> ExitCode {
    let Some((universe, threading)) = mpi::initialize_with_threading(Threading::Multiple) else {
        eprintln!("error: MPI cannot be started");
        return ExitCode::FAILURE;
    };
    let world = universe.world();
    let local_size = world.split_shared(0).size() as usize;
    let (requests, inbox) = channel();
    let (outbox, replies) = channel();
    let desk = Arc::new(Desk {
        answers: Answers::default(),
        is_possible: threading >= Threading::Multiple,
        is_closed: AtomicBool::new(false),
        clerk: Mutex::new(None),
    });
    let ranks = World {
        rank: world.rank() as usize,
        size: world.size() as usize,
        local_size,
        post: Mutex::new((requests.clone(), replies)),
        desk: desk.clone(),
        asking: Mutex::new(()),
    };
    thread::spawn(move || {
        let code = cli::main_of_ranks(Arc::new(ranks));
        // The main thread waits for it.
        let _ = requests.send(Request::Done(code));
    });
    let code = serve(&world, &inbox, &outbox);
    desk.close();
    code
}

/// Does what the command asks for, until it is done.
fn serve(
    world: &SimpleCommunicator,
    inbox: &Receiver<Request>,
    outbox: &Sender<Vec<u8>>,
) -> ExitCode {
    while let Ok(request) = inbox.recv() {
        let reply = match request {
            Request::Send(to, message) => {
                send(world, to, &message, MESSAGE);
                Vec::new()
            }
            Request::Receive(from) => receive(world, from, MESSAGE),
            Request::Abort(code) => world.abort(code),
            Request::Done(code) => return code,
        };
        if outbox.send(reply).is_err() {
            break;
        }
    }
    world.abort(1)
}

/// Sends the length of a message, then its bytes.
fn send(world: &SimpleCommunicator, to: usize, message: &[u8], tag: i32) {
    let process = world.process_at_rank(to as i32);
    process.send_with_tag(&(message.len() as u64), tag);
    message.chunks(PIECE).for_each(|piece| process.send_with_tag(piece, tag));
}

fn receive(world: &SimpleCommunicator, from: usize, tag: i32) -> Vec<u8> {
    let process = world.process_at_rank(from as i32);
    let (length, _) = process.receive_with_tag::<u64>(tag);
    let mut message = vec![0; length as usize];
    message.chunks_mut(PIECE).for_each(|piece| {
        process.receive_into_with_tag(piece, tag);
    });
    message
}
