#!/usr/bin/env node
// This file is no ES module, because loading a module starts libuv's thread pool, which then keeps
// its size. Disks are read by those threads, and Node's default of four is too few.
process.env.UV_THREADPOOL_SIZE ??= '16';
import('../dist/cli/main.js').then(async ({ main, endProcess }) => {
  const status = (process.exitCode = await main(process.argv.slice(2)));
  // The command is over and its output is written. End the process even if a peer still holds a
  // connection open.
  setTimeout(() => endProcess(status), status > 128 ? 0 : 2000).unref();
});
