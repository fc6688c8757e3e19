/**
 * Events that the kernel raises, eventfd(2): a counter behind a descriptor. The event loop watches
 * it.
 */
import { connect, Socket, type SocketConstructorOpts } from 'node:net';
import { requireKoffi, type Call } from './koffi.node.js';
import { systemError } from './system-error.node.js';

const EFD_CLOEXEC_NONBLOCK = 0o2004000;
/**
 * Larger than the counter, which is 8 bytes. So libuv sees a short read and does not read again,
 * which saves a system call for each event.
 */
const bufferSize = 64;

let create: Call | undefined;

/**
 * A new event. The caller closes its descriptor, unless {@link watchEvent} takes it.
 * @throws Error with an errno `code`
 */
export function createEvent(): number {
  const koffi = requireKoffi('eventfd');
  create ??= koffi.load(null).func('int eventfd(uint value, int flags)') as Call;
  const fd = create(0, EFD_CLOEXEC_NONBLOCK);
  if (fd < 0) throw systemError('eventfd', koffi.errno());
  return fd;
}

/**
 * Calls `told` whenever the event was raised; several raises may be one call. Node cannot make a
 * net.Socket of an eventfd(2) directly, but its internal Pipe handle reads any descriptor.
 * @returns the socket that owns the descriptor: destroying it closes the descriptor
 */
export function watchEvent(fd: number, told: () => void): Socket {
  const Pipe = pipeClass();
  const handle = new Pipe(0);
  if (handle.open(fd) !== 0) throw new Error('the event cannot be watched');
  const onread = { buffer: new Uint8Array(bufferSize), callback: () => (told(), true) };
  const options = { handle, onread, readable: true, writable: false };
  const socket = new Socket(options as unknown as SocketConstructorOpts);
  socket.on('error', () => undefined);
  socket.resume();
  return socket;
}

type PipeClass = new (type: number) => { open(fd: number): number };

/** Node's internal Pipe class, which is the class of the handle of any socket for a path. */
function pipeClass(): PipeClass {
  const socket = connect({ path: '/' });
  socket.on('error', () => undefined);
  const { _handle: handle } = socket as unknown as { readonly _handle?: object | null };
  socket.destroy();
  if (!handle) throw new Error('no handle');
  return handle.constructor as PipeClass;
}
