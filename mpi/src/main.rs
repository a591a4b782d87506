//! The command line of entropysum as a job of MPI: `mpirun -n 8 entropysum-mpi fit points.npy -k 16`.
//!
//! The main thread carries messages, since MPI wants all its calls from the thread that has begun it. A second thread runs the command.

use entropysum::cli;
use entropysum::error::{Error, Result};
use entropysum::ranks::Ranks;
use mpi::Threading;
use mpi::topology::SimpleCommunicator;
use mpi::traits::{Communicator, Destination, Source};
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes of a message of MPI at most: it counts them by 32 bits.
const PIECE: usize = 1 << 30;

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
}

impl World {
    /// Hands a request to the thread that speaks MPI, and waits for its end. Returns the message that was received, or no bytes.
    fn ask(&self, request: Request) -> Result<Vec<u8>> {
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
        let _ = self.ask(Request::Abort(code));
        std::process::exit(code)
    }

    fn send(&self, to: usize, message: &[u8]) -> Result<()> {
        self.ask(Request::Send(to, message.to_vec())).map(drop)
    }

    fn receive(&self, from: usize, message: &mut Vec<u8>) -> Result<()> {
        *message = self.ask(Request::Receive(from))?;
        Ok(())
    }
}

fn main() -> ExitCode {
    let Some((universe, _)) = mpi::initialize_with_threading(Threading::Funneled) else {
        eprintln!("error: MPI cannot be started");
        return ExitCode::FAILURE;
    };
    let world = universe.world();
    let local_size = world.split_shared(0).size() as usize;
    let (requests, inbox) = channel();
    let (outbox, replies) = channel();
    let ranks = World {
        rank: world.rank() as usize,
        size: world.size() as usize,
        local_size,
        post: Mutex::new((requests.clone(), replies)),
    };
    std::thread::spawn(move || {
        let code = cli::main_of_ranks(Arc::new(ranks));
        // The main thread waits for it.
        let _ = requests.send(Request::Done(code));
    });
    serve(&world, &inbox, &outbox)
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
                send(world, to, &message);
                Vec::new()
            }
            Request::Receive(from) => receive(world, from),
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
fn send(world: &SimpleCommunicator, to: usize, message: &[u8]) {
    let process = world.process_at_rank(to as i32);
    process.send(&(message.len() as u64));
    message.chunks(PIECE).for_each(|piece| process.send(piece));
}

fn receive(world: &SimpleCommunicator, from: usize) -> Vec<u8> {
    let process = world.process_at_rank(from as i32);
    let (length, _) = process.receive::<u64>();
    let mut message = vec![0; length as usize];
    message.chunks_mut(PIECE).for_each(|piece| {
        process.receive_into(piece);
    });
    message
}
