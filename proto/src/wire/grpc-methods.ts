import { fromBinary, type DescMessage, type DescService, type Message } from '@bufbuild/protobuf';
import { toBytes } from './to-bytes.ts';

/** One method in the form that gRPC libraries take: a path, four codecs and two flags. */
export interface GrpcMethod {
  path: string;
  requestStream: boolean;
  responseStream: boolean;
  requestSerialize(message: Message): Buffer;
  requestDeserialize(bytes: Buffer): Message;
  responseSerialize(message: Message): Buffer;
  responseDeserialize(bytes: Buffer): Message;
}

/** Node's Buffer, named structurally so that this package needs no Node types. */
type Buffer = Uint8Array & { readonly __buffer?: never };

/** The methods of a service by local name, for `new Server().addService` and `makeGenericClientConstructor` of grpc-js. */
export function grpcMethods(service: DescService): Record<string, GrpcMethod> {
  return Object.fromEntries(
    service.methods.map((method) => [
      method.localName,
      {
        path: `/${service.typeName}/${method.name}`,
        requestStream: method.methodKind === 'client_streaming' || method.methodKind === 'bidi_streaming',
        responseStream: method.methodKind === 'server_streaming' || method.methodKind === 'bidi_streaming',
        ...codec('request', method.input),
        ...codec('response', method.output),
      } as GrpcMethod,
    ]),
  );
}

function codec(side: 'request' | 'response', schema: DescMessage) {
  return {
    [`${side}Serialize`]: (message: Message) => {
      const bytes = toBytes(schema, message);
      // grpc-js wants a Buffer; this is a view, not a copy.
      return (
        globalThis as unknown as { Buffer: { from(b: ArrayBufferLike, o: number, l: number): Buffer } }
      ).Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    },
    // Unknown fields are dropped: from a peer they only cost memory.
    [`${side}Deserialize`]: (bytes: Buffer) => fromBinary(schema, bytes, { readUnknownFields: false }),
  };
}
