#!/usr/bin/env node
// Not an ES module, as loading one starts the threads that read disks: there should be more than Node's four of them,
// and what is set now counts.
process.env.UV_THREADPOOL_SIZE ??= '16';
import('../dist/cli/main.js').then(async ({ main }) => {
  process.exitCode = await main(process.argv.slice(2));
});
