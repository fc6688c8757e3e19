/** SIGINT, SIGTERM and SIGHUP end a command in good order; a second one ends it at once. */

/**
 * Listens from now on. `received` resolves with exit status 0 for SIGTERM (asked to end, and ended), 130 for SIGINT, and 129
 * for SIGHUP, which a terminal that is closed sends.
 * @param hangUp False for a command that takes SIGHUP itself.
 */
export function onSignals({ hangUp = true } = {}): { received: Promise<number>; stop: () => void } {
  let first: (status: number) => void = () => undefined;
  let count = 0;
  const received = new Promise<number>((resolve) => (first = resolve));
  const handle = (status: number) => () => {
    if (++count > 1) process.exit(status || 143);
    first(status);
  };
  const onTerm = handle(0);
  const onInt = handle(130);
  const onHangUp = handle(129);
  if (hangUp) process.on('SIGHUP', onHangUp);
  process.on('SIGTERM', onTerm);
  process.on('SIGINT', onInt);
  return {
    received,
    stop: () => {
      process.off('SIGHUP', onHangUp);
      process.off('SIGTERM', onTerm);
      process.off('SIGINT', onInt);
    },
  };
}
