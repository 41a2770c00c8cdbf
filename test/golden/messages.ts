import { create, ScalarType, type DescField, type DescMessage, type Message } from '@bufbuild/protobuf';
import {
  file_commonweight_v1_admin,
  file_commonweight_v1_agent,
  file_commonweight_v1_channel,
  file_commonweight_v1_model,
  file_commonweight_v1_release,
  file_commonweight_v1_report,
} from '@commonweight/proto';

/** All schema files. */
export const files = [
  file_commonweight_v1_admin,
  file_commonweight_v1_agent,
  file_commonweight_v1_channel,
  file_commonweight_v1_model,
  file_commonweight_v1_release,
  file_commonweight_v1_report,
];

/** A message with every field set; one for each case where only one field can be. */
export interface Sample {
  name: string;
  schema: DescMessage;
  message: Message;
}

/** One sample of each message of the schema, and of each case of those that have a oneof. */
export function samples(): Sample[] {
  return files
    .flatMap(({ messages }) => messages)
    .flatMap((schema) => {
      const [oneof] = schema.oneofs;
      const cases = oneof === undefined ? [undefined] : oneof.fields;
      return cases.map((field) => ({
        name: field === undefined ? schema.typeName : `${schema.typeName} ${field.name}`,
        schema,
        message: filled(schema, field),
      }));
    });
}

/** Values are made from the field's number and name, so that two fields that change places show. */
function filled(schema: DescMessage, chosen: DescField | undefined = schema.oneofs[0]?.fields[0]): Message {
  const values: Record<string, unknown> = {};
  for (const field of schema.fields) {
    if (field.oneof === undefined) values[field.localName] = valueOf(field);
    else if (field === chosen) values[field.oneof.localName] = { case: field.localName, value: valueOf(field) };
  }
  return create(schema, values);
}

function valueOf(field: DescField): unknown {
  switch (field.fieldKind) {
    case 'message':
      return filled(field.message);
    case 'enum':
      return field.enum.values.at(-1)?.number;
    case 'scalar':
      return scalar(field.scalar, field);
    case 'list':
      if (field.listKind === 'enum') throw new Error(`${field.name}: a list of enums has no sample yet`);
      return [1, 2].map(() => (field.listKind === 'message' ? filled(field.message) : scalar(field.scalar, field)));
    case 'map':
      if (field.mapKind !== 'scalar') throw new Error(`${field.name}: a map of ${field.mapKind} has no sample yet`);
      return { [`key of ${field.name}`]: scalar(field.scalar, field) };
  }
}

function scalar(type: ScalarType, { name, number }: DescField): unknown {
  switch (type) {
    case ScalarType.DOUBLE:
      return number + 0.1;
    case ScalarType.INT64:
    case ScalarType.SINT64:
      return -BigInt(number) * 2n ** 40n;
    case ScalarType.UINT64:
      return BigInt(number) + 2n ** 40n;
    case ScalarType.BOOL:
      return true;
    case ScalarType.STRING:
      return `${name} é`;
    case ScalarType.BYTES:
      return new Uint8Array(Buffer.from(`bytes of ${name}`));
    case ScalarType.UINT32:
      return number + 2 ** 20;
    case ScalarType.SINT32:
      return -number - 2 ** 20;
    default:
      throw new Error(`${name}: a scalar of type ${ScalarType[type]} has no sample yet`);
  }
}
