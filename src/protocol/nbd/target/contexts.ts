/** Metadata contexts of the target ([NBD] "Metadata querying"): which there are, and which a client's queries choose. */
import { formatIdentity } from '../../../block/identity.js';
import type { BlockInfo } from '../../../block/device.js';
import { baseAllocation, identityContext, isSessionId, mediaContext, sessionContext } from '../spec.js';

/** Metadata contexts that a client chose: number of each, or undefined. */
export interface ChosenContexts {
  readonly allocation: number | undefined;
  readonly session: number | undefined;
  readonly media: number | undefined;
  readonly identity: number | undefined;
}

export const noContexts: ChosenContexts = {
  allocation: undefined,
  session: undefined,
  media: undefined,
  identity: undefined,
};
const allocationId = 1;
const sessionId = 2;
const mediaId = 3;
const identityId = 4;

/** The numbers of those that were chosen. */
export function chosenIds({ allocation, session, media, identity }: ChosenContexts): number[] {
  return [allocation, session, media, identity].filter((id) => id !== undefined);
}

/** Names that queries of NBD_OPT_LIST_META_CONTEXT match; without queries, all. @param media Whether the export has one. */
export function listedContexts(queries: readonly string[], media: boolean): string[] {
  const known = [
    { name: baseAllocation, namespace: 'base:' },
    { name: sessionContext, namespace: 'farbus:' },
    { name: identityContext, namespace: 'farbus:' },
    ...(media ? [{ name: mediaContext, namespace: 'farbus:' }] : []),
  ];
  const matching = known.filter(
    ({ name, namespace }) => queries.length === 0 || queries.includes(name) || queries.includes(namespace),
  );
  return matching.map(({ name }) => name);
}

/** What queries of NBD_OPT_SET_META_CONTEXT choose, and the session that is named in them. @param media As above. */
export function chooseContexts(
  queries: readonly string[],
  media: boolean,
): { chosen: ChosenContexts; session: string | undefined } {
  const session = queries
    .filter((query) => query.startsWith(sessionContext))
    .map((query) => query.slice(sessionContext.length))
    .find(isSessionId);
  const chosen = {
    allocation: queries.includes(baseAllocation) ? allocationId : undefined,
    session: session === undefined ? undefined : sessionId,
    media: media && queries.includes(mediaContext) ? mediaId : undefined,
    identity: queries.includes(identityContext) ? identityId : undefined,
  };
  return { chosen, session };
}

/** What the names of contexts tell of an export. */
export interface ContextFacts {
  /** The session that the client named. */
  readonly session: string | undefined;
  /** {@link SessionRegistry.state} of the export. */
  readonly state: string;
  /** The medium in the drive; '' if there is none. */
  readonly medium: string;
  readonly info: BlockInfo;
}

/** Number and name of each chosen context, as the client is told. */
export function contextNames(
  { allocation, session, media, identity }: ChosenContexts,
  facts: ContextFacts,
): [id: number, name: string][] {
  const names: [number, string][] = [];
  if (allocation !== undefined) names.push([allocation, baseAllocation]);
  if (session !== undefined && facts.session !== undefined) {
    names.push([session, `${sessionContext}${facts.session}/${facts.state}`]);
  }
  if (media !== undefined) names.push([media, `${mediaContext}/${facts.medium}`]);
  if (identity !== undefined) {
    const { size, marks = {} } = facts.info;
    names.push([identity, `${identityContext}/${formatIdentity({ size, marks })}`]);
  }
  return names;
}
