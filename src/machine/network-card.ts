/**
 * The interface to a guest's network card: frames from the guest's driver and frames to it.
 *
 * Not here: the card itself, which belongs to the engine or is a logical device (device/virtio),
 * and its connection to a network (computer/shared-adapter.ts).
 */

/**
 * Result of giving a frame to the card. `full`: it has no room now. `off`: the driver does not
 * receive.
 */
export type CardIntake = 'taken' | 'full' | 'off';

export interface NetworkCard {
  /** MAC address, 6 bytes, which the guest's driver reads from the card. */
  readonly mac: Uint8Array;
  /** Largest payload in bytes of a frame to the card: at most 1500. */
  readonly mtu: number;
  /**
   * Sets the callback for frames that the driver sends. It is called within a guest instruction, so
   * it must not throw. The array is valid only during the call.
   */
  onSend(take: (frame: Uint8Array) => void): void;
  /**
   * Puts a frame into the card and raises its interrupt. Must not be called within an exit. The
   * caller may reuse the array.
   */
  receive(frame: Uint8Array): CardIntake;
  /**
   * Sets the callback for when there may be room again after `full`. It is called from the event
   * loop, not within a guest instruction.
   */
  onRoom(callback: () => void): void;
  /** The processor vector of the card's interrupt; undefined until the guest has set it up. */
  interruptVector(): number | undefined;
}
