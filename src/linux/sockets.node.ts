/**
 * System calls on sockets and network interfaces: socket(7), packet(7), netdevice(7), the TAP
 * driver (linux/if_tun.h). The calls run on the calling thread and never block.
 *
 * Not here: sendmmsg(2) and recvmmsg(2) (message-batch.node.ts).
 */
import { bindOnce, requireKoffi, type Call, type Koffi } from './koffi.node.js';
import { messageBatch, type MessageBatch } from './message-batch.node.js';
import { systemError } from './system-error.node.js';

export const AF_UNIX = 1;
export const AF_INET = 2;
export const AF_PACKET = 17;
export const SOCK_STREAM = 1;
export const SOCK_DGRAM = 2;
export const SOCK_RAW = 3;
const SOCK_NONBLOCK_CLOEXEC = 0o2004000;
export const O_RDWR_NONBLOCK_CLOEXEC = 0o2004002;
const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;
const MSG_MORE = 0x8000;

export const SOL_SOCKET = 1;
export const SO_REUSEADDR = 2;
export const SO_SNDBUF = 7;
export const SO_RCVBUF = 8;
export const SO_SNDBUFFORCE = 32;
export const SO_RCVBUFFORCE = 33;
export const SOL_PACKET = 263;
export const PACKET_ADD_MEMBERSHIP = 1;
export const PACKET_IGNORE_OUTGOING = 23;

/** netdevice(7), ioctl_tty(2), linux/if_tun.h: ioctl requests. */
export const SIOCGIFFLAGS = 0x8913;
export const SIOCSIFFLAGS = 0x8914;
export const SIOCGIFMTU = 0x8921;
export const SIOCSIFMTU = 0x8922;
export const SIOCGIFHWADDR = 0x8927;
export const TUNSETIFF = 0x400454ca;

export interface SocketCalls {
  /**
   * Opens a non-blocking socket. Like all calls here that return no errno, it throws an error with
   * an errno `code`.
   */
  socket(family: number, type: number, protocol: number): number;
  socketPair(): [number, number];
  open(path: string, flags: number): number;
  close(fd: number): void;
  /** dup2(2): makes `target` a duplicate of `fd`. */
  dup2(fd: number, target: number): void;
  bind(fd: number, address: Uint8Array): void;
  setOption(fd: number, level: number, option: number, value: Uint8Array): void;
  /**
   * Sets a socket buffer to `size` bytes: with option `forced` beyond the system's limit if
   * permitted, else with `limited`.
   */
  setBuffer(fd: number, forced: number, limited: number, size: number): void;
  /** ioctl(2). `argument` is read, and may be overwritten with the result. */
  ioctl(fd: number, request: number, argument: Uint8Array): void;
  interfaceIndex(name: string): number;
  /** read(2). Returns the number of bytes, or a negative errno. */
  read(fd: number, into: Uint8Array): number;
  write(fd: number, from: Uint8Array): number;
  /**
   * send(2) on a connected stream. `more`: further bytes follow immediately. Returns the number of
   * bytes taken, or a negative errno.
   */
  send(fd: number, from: Uint8Array, more: boolean): number;
  /**
   * sendfile(2) from `offset` of a file to a stream. Returns the number of bytes taken, 0 at the
   * end of the file, or a negative errno.
   */
  sendFile(to: number, from: number, offset: number, length: number): number;
  /**
   * Sends a datagram to a unix socket. A path that begins with "@" is in the abstract namespace
   * (unix(7)). A datagram that the receiver does not take is lost.
   */
  sendDatagram(path: string, message: Uint8Array): void;
  /**
   * Memory for up to `count` messages of `size` bytes, which are sent or received with one call.
   * `addressSize` is the size in bytes of their source or destination addresses; default 0, for a
   * socket that needs none.
   */
  batch(count: number, size: number, addressSize?: number): MessageBatch;
}

/** The calls; undefined if they are not available. */
export const socketCallsIfAny: () => SocketCalls | undefined = bindOnce(bind);

/**
 * The calls, for a feature that does not work without them.
 * @param what begins the error message, for example "eth0"
 * @throws FarbusError if they are not available
 */
export function socketCalls(what: string): SocketCalls {
  return socketCallsIfAny() ?? bind(requireKoffi(what));
}

function bind(koffi: Koffi): SocketCalls {
  const library = koffi.load(null);
  const func = (text: string): Call => library.func(text) as Call;
  const calls = {
    socket: func('int socket(int, int, int)'),
    socketpair: func('int socketpair(int, int, int, void *)'),
    open: func('int open(const char *, int)'),
    close: func('int close(int)'),
    dup2: func('int dup2(int, int)'),
    bind: func('int bind(int, void *, uint)'),
    setsockopt: func('int setsockopt(int, int, int, void *, uint)'),
    ioctl: func('int ioctl(int, unsigned long, void *)'),
    read: func('int64_t read(int, void *, size_t)'),
    write: func('int64_t write(int, void *, size_t)'),
    send: func('int64_t send(int, void *, size_t, int)'),
    sendfile: func('int64_t sendfile(int, int, void *, size_t)'),
    sendto: func('int64_t sendto(int, void *, size_t, int, void *, uint)'),
    ifIndex: func('uint if_nametoindex(const char *)'),
  };
  /** Offset argument of sendfile(2). Reused, because calls do not overlap. */
  const place = new BigInt64Array(1);
  const checked = (name: keyof typeof calls, ...args: unknown[]): number => {
    const result = calls[name](...args);
    if (result < 0) throw systemError(name, koffi.errno());
    return result;
  };
  const counted = (result: number): number => (result < 0 ? -koffi.errno() : Number(result));
  return {
    socket: (family, type, protocol) => checked('socket', family, type | SOCK_NONBLOCK_CLOEXEC, protocol),
    socketPair: () => {
      const pair = new Int32Array(2);
      checked('socketpair', AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK_CLOEXEC, 0, pair);
      return [pair[0]!, pair[1]!];
    },
    open: (path, flags) => checked('open', path, flags),
    close: (fd) => void checked('close', fd),
    dup2: (fd, target) => void checked('dup2', fd, target),
    bind: (fd, address) => void checked('bind', fd, address, address.length),
    setOption: (fd, level, option, value) => void checked('setsockopt', fd, level, option, value, value.length),
    setBuffer: (fd, forced, limited, size) => {
      const value = int32(size);
      if (calls.setsockopt(fd, SOL_SOCKET, forced, value, value.length) === 0) return;
      checked('setsockopt', fd, SOL_SOCKET, limited, value, value.length);
    },
    ioctl: (fd, request, argument) => void checked('ioctl', fd, request, argument),
    interfaceIndex: (name) => {
      const index = calls.ifIndex(name);
      if (index === 0) throw systemError('if_nametoindex', koffi.errno());
      return index;
    },
    read: (fd, into) => counted(calls.read(fd, into, into.length)),
    write: (fd, from) => counted(calls.write(fd, from, from.length)),
    send: (fd, from, more) =>
      counted(calls.send(fd, from, from.length, MSG_DONTWAIT | MSG_NOSIGNAL | (more ? MSG_MORE : 0))),
    sendFile: (to, from, offset, length) => {
      place[0] = BigInt(offset);
      return counted(calls.sendfile(to, from, place, length));
    },
    sendDatagram: (path, message) => {
      const fd = checked('socket', AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK_CLOEXEC, 0);
      try {
        // struct sockaddr_un
        const name = Buffer.from(path.startsWith('@') ? `\0${path.slice(1)}` : `${path}\0`);
        const address = Buffer.concat([Buffer.of(AF_UNIX, 0), name]);
        calls.sendto(fd, message, message.length, MSG_NOSIGNAL, address, address.length);
      } finally {
        calls.close(fd);
      }
    },
    batch: (count, size, addressSize) => messageBatch(koffi, count, size, addressSize),
  };
}

/** The value of a socket option of type int. */
export function int32(value: number): Uint8Array {
  return new Uint8Array(Int32Array.of(value).buffer);
}
