/** The checks of the conformance suite, which depends on no test runner. */

/** A device does not do what a BlockDevice promises. */
export class ConformanceError extends Error {
  /** The name of the class. */
  override readonly name = 'ConformanceError';
}

/** @throws ConformanceError unless `condition` holds */
export function expect(condition: boolean, message: string): asserts condition {
  if (!condition) throw new ConformanceError(message);
}
