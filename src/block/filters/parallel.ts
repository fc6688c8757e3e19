/** Runs the parts of one request in parallel. */

/**
 * Runs `jobs`, at most `limit` at a time. After a failure it begins no further job. It settles when
 * every job that began has settled, so that a failed request has no part in flight. Rejects with
 * the first failure.
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
