// A plugin of TypeDoc: leaves out the members that a class or interface inherits. They are
// described once, where they are declared.
import { Converter, ReflectionKind } from 'typedoc';

export function load(app) {
  app.converter.on(Converter.EVENT_RESOLVE_END, ({ project }) => {
    const members = project.getReflectionsByKind(ReflectionKind.ClassMember);
    for (const member of members) if (member.inheritedFrom) project.removeReflection(member);
  });
}
