/** A client's handshake and requests as bytes, for tests that need many, slow or faulty clients. */
import { connect, type Socket } from 'node:net';
import { infoData, join, optionBytes, requestBytes } from '../unit/nbd-target-peer.js';
import { u32 } from './numbers.js';

export type Where = { readonly path: string } | { readonly host: string; readonly port: number };

/** Opens a connection and waits for the greeting. */
export function greeted(where: Where): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect(where);
    socket.once('error', reject);
    socket.once('close', () => reject(new Error('the server closed the connection')));
    socket.once('data', () => {
      socket.off('error', reject);
      socket.on('error', () => undefined);
      resolve(socket);
    });
  });
}

/**
 * Opens a connection and enters transmission on an export, with simple replies: 16 bytes each if
 * they carry no data.
 */
export async function entered(where: Where, name = ''): Promise<Socket> {
  const socket = await greeted(where);
  socket.write(join([u32(3), optionBytes(7, infoData(name, []))]));
  await new Promise<void>((resolve, reject) => {
    socket.once('close', () => reject(new Error('the server closed the connection')));
    // The answers: NBD_REP_INFO with the export's facts (20 + 12 bytes) and NBD_REP_ACK (20 bytes),
    // or an error.
    let have = Buffer.alloc(0);
    const data = (chunk: Buffer): void => {
      have = Buffer.concat([have, chunk]);
      if (have.length >= 20 && have[12]! >= 0x80) return void socket.destroy();
      if (have.length < 52) return;
      socket.off('data', data);
      resolve();
    };
    socket.on('data', data);
  });
  return socket;
}

/** Waits until `length` bytes have arrived in total. Resolves with them. */
export function received(socket: Socket, length: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let have = 0;
    const closed = (): void => reject(new Error(`the connection ended after ${have} of ${length} bytes`));
    const data = (chunk: Buffer): void => {
      chunks.push(chunk);
      if ((have += chunk.length) < length) return;
      socket.off('data', data);
      socket.off('close', closed);
      resolve(Buffer.concat(chunks));
    };
    socket.on('data', data);
    socket.once('close', closed);
  });
}

/** Sends one request without data. Resolves with the error value of its simple reply. */
export async function ask(socket: Socket, command: number, offset = 0, length = 0): Promise<number> {
  socket.write(requestBytes({ command, offset, length }));
  return (await received(socket, 16)).readUInt32BE(4);
}

/** Sends one write. Resolves with the error value of its simple reply. */
export async function write(socket: Socket, offset: number, data: Uint8Array, flags = 0): Promise<number> {
  socket.write(requestBytes({ command: 1, flags, offset, data }));
  return (await received(socket, 16)).readUInt32BE(4);
}
