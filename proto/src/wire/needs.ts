import { create } from '@bufbuild/protobuf';
import type { ModelNeeds } from '@commonweight/core';
import { VariantNeedsSchema, type VariantNeeds } from '../gen/commonweight/v1/release_pb.ts';

export const needsToWire = (needs: ModelNeeds): VariantNeeds =>
  create(VariantNeedsSchema, {
    ...needs,
    operatorSets: needs.operatorSets.map((set) => ({ ...set })),
    operators: [...needs.operators],
    elementTypes: [...needs.elementTypes],
  });

export const needsFromWire = ({ irVersion, operatorSets, operators, elementTypes }: VariantNeeds): ModelNeeds => ({
  irVersion,
  operatorSets: operatorSets.map(({ domain, version }) => ({ domain, version })),
  operators,
  elementTypes,
});
