/**
 * The data of a command has no memory: an error of the host, not of the drive or its medium. The
 * adapter answers it, so drives pass it on.
 */
export class HostError extends Error {
  override readonly name: string = 'HostError';
}
