/**
 * Claims on frames. A claim tells the frames of one of the hypervisor's protocols from those of the
 * operating system that shares the network adapter with it ([SYS] fig. 9, step 281).
 */

/**
 * `own`: the frame is for the claim's protocol only. `hidden`: no protocol on this computer needs
 * the frame, and the operating system must not see it either. `other`: the claim does not concern
 * the frame.
 */
export type FrameOwner = 'own' | 'hidden' | 'other';

/** The frames of a shared adapter that belong to a protocol of the hypervisor. */
export interface FrameClaim {
  /** Name for messages and steps, for example "AoE target 1.0". */
  readonly name: string;
  /** Classifies a frame that has arrived. */
  incoming(frame: Uint8Array): FrameOwner;
  /**
   * True if a frame sent by the operating system could be taken for one of the claim's own. It is
   * then dropped.
   */
  poses(frame: Uint8Array): boolean;
  /**
   * A tag that is equal on both computers for the frames of one command, for `--trace`
   * (base/steps.ts).
   */
  tagOf(frame: Uint8Array): number;
}
