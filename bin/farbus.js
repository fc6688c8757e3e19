#!/usr/bin/env node
// Not an ES module, as loading one starts the threads that read disks: there should be more than Node's four of them,
// and what is set now counts.
process.env.UV_THREADPOOL_SIZE ??= '16';
import('../dist/cli/main.js').then(async ({ main, endProcess }) => {
  const status = (process.exitCode = await main(process.argv.slice(2)));
  // A command that is over, and whose output is written, ends its process even if a peer still holds a connection open.
  setTimeout(() => endProcess(status), status > 128 ? 0 : 2000).unref();
});
