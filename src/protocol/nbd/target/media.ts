/**
 * Actions of a client on an export's removable medium, by our own command (spec.ts,
 * `mediaContext`).
 */
import type { RemovableMedia, RequestOptions } from '../../../block/device.js';
import { BlockError } from '../../../block/errors.js';
import { MediaAction } from '../spec.js';
import type { Request } from './requests.js';

/**
 * Carries out a {@link MediaAction} of `Command.media`.
 * @param options must name the medium that the connection refers to
 */
export async function actOnMedia(
  media: RemovableMedia | undefined,
  { offset }: Request,
  options: RequestOptions,
): Promise<void> {
  if (!media) throw new BlockError('unsupported', 'there is no removable medium');
  switch (offset) {
    case MediaAction.check:
      if (media.medium === options.medium) return;
      throw new BlockError('no-medium', media.medium === '' ? 'the medium is gone' : 'another medium is in the drive');
    case MediaAction.unlock:
    case MediaAction.lock:
      return media.lock(offset === MediaAction.lock, options);
    case MediaAction.eject:
      return media.eject(options);
    default:
      throw new BlockError('range', `there is no action ${offset} on a medium`);
  }
}
