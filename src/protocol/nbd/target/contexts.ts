/**
 * Metadata contexts of the target ([NBD] "Metadata querying"): the known contexts, and which of
 * them a client's queries select.
 */
import { formatIdentity } from '../../../block/identity.js';
import type { BlockInfo } from '../../../block/device.js';
import { baseAllocation, identityContext, isSessionId, mediaContext, readerContext, sessionContext } from '../spec.js';

/** The ids of the contexts that a client selected; undefined for each that it did not. */
export interface ChosenContexts {
  readonly allocation: number | undefined;
  readonly session: number | undefined;
  readonly media: number | undefined;
  readonly identity: number | undefined;
  readonly reader: number | undefined;
}

export const noContexts: ChosenContexts = {
  allocation: undefined,
  session: undefined,
  media: undefined,
  identity: undefined,
  reader: undefined,
};
const allocationId = 1;
const sessionId = 2;
const mediaId = 3;
const identityId = 4;
const readerId = 5;
/** Contexts that one connection can choose. */
export const contextCount = 5;

/** The ids of the selected contexts. */
export function chosenIds({ allocation, session, media, identity, reader }: ChosenContexts): number[] {
  return [allocation, session, media, identity, reader].filter((id) => id !== undefined);
}

/**
 * The names that match the queries of NBD_OPT_LIST_META_CONTEXT; without queries, all names.
 * @param media true if the export has a removable medium
 */
export function listedContexts(queries: readonly string[], media: boolean): string[] {
  const known = [
    { name: baseAllocation, namespace: 'base:' },
    { name: sessionContext, namespace: 'farbus:' },
    { name: identityContext, namespace: 'farbus:' },
    { name: readerContext, namespace: 'farbus:' },
    ...(media ? [{ name: mediaContext, namespace: 'farbus:' }] : []),
  ];
  const matching = known.filter(
    ({ name, namespace }) => queries.length === 0 || queries.includes(name) || queries.includes(namespace),
  );
  return matching.map(({ name }) => name);
}

/**
 * The contexts that the queries of NBD_OPT_SET_META_CONTEXT select, and the session that they name.
 * @param media true if the export has a removable medium
 */
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
    reader: queries.includes(readerContext) ? readerId : undefined,
  };
  return { chosen, session };
}

/** The facts about an export that are part of the names of contexts. */
export interface ContextFacts {
  /** The session that the client named, if any. */
  readonly session: string | undefined;
  /** {@link SessionRegistry.state} of the export. */
  readonly state: string;
  /** The name of the inserted medium; '' if there is none. */
  readonly medium: string;
  readonly info: BlockInfo;
}

/** The id and the name of each selected context, as sent to the client. */
export function contextNames(
  { allocation, session, media, identity, reader }: ChosenContexts,
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
  if (reader !== undefined) names.push([reader, readerContext]);
  return names;
}
