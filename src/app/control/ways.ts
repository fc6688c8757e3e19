/** How processes reach their sources, if that is not plain: `farbus ps` and status show it. */
import type { BlockInfo } from '../../block/device.js';

export interface SourceWay {
  /** The source, as in `uses`. */
  readonly source: string;
  /** The gateway in use, or the last one, if the source names several. */
  readonly route?: string;
  /** When its server was lost, in ISO 8601; absent while it is there. */
  readonly away?: string;
}

/** The sources that have a gateway in use, or whose servers are lost; an empty object for none. */
export function waysOf(sources: Iterable<readonly [source: string, info: BlockInfo | undefined]>): {
  readonly ways?: readonly SourceWay[];
} {
  const ways: SourceWay[] = [];
  for (const [source, { route, away } = {}] of sources as Iterable<readonly [string, Partial<BlockInfo> | undefined]>) {
    if (route === undefined && away === undefined) continue;
    const lost = away !== undefined && { away: new Date(away).toISOString() };
    ways.push({ source, ...(route !== undefined && { route }), ...lost });
  }
  return ways.length > 0 ? { ways } : {};
}

/** The ways of an answer that any program may have given. */
export function readWays(value: unknown): SourceWay[] {
  const all: unknown[] = Array.isArray(value) ? value : [];
  return all.flatMap((one) => {
    const { source, route, away } = (typeof one === 'object' && one !== null ? one : {}) as Record<string, unknown>;
    if (typeof source !== 'string') return [];
    const isTime = typeof away === 'string' && !Number.isNaN(Date.parse(away));
    return [{ source, ...(typeof route === 'string' && { route }), ...(isTime && { away }) }];
  });
}
