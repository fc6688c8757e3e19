/** Running the parts of one request side by side. */

/**
 * Runs `jobs`, at most `limit` at a time, and settles only when every one that was begun is over: a request that has
 * failed must have no part still under way. After a failure no further one is begun; the first failure is thrown.
 */
export async function inParallel(jobs: readonly (() => Promise<void>)[], limit = 16): Promise<void> {
  if (jobs.length === 1) return jobs[0]!();
  let next = 0;
  let failure: { readonly reason: unknown } | undefined;
  const worker = async (): Promise<void> => {
    while (next < jobs.length && !failure) {
      try {
        await jobs[next++]!();
      } catch (reason) {
        failure ??= { reason };
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(limit, jobs.length) }, worker));
  if (failure) throw failure.reason;
}
