/** All operators, by name. */
import type { Node, OperationName } from "../graph/node.ts";
import { attentionGradientOperator, attentionOperator } from "./attention.ts";
import { contractOperator } from "./contract.ts";
import { gatherOperator } from "./gather.ts";
import {
  concatOperator,
  expandOperator,
  padOperator,
  rearrangeOperator,
  sliceOperator,
  splitOperator,
} from "./layout-operators.ts";
import type { Operator } from "./operator.ts";
import { castOperator, pointwiseOperator, stopGradientOperator } from "./pointwise.ts";
import { reduceOperator } from "./reduce.ts";
import {
  constantOperator,
  indexOperator,
  inputOperator,
  parameterOperator,
  randomOperator,
  sizeOperator,
} from "./source.ts";

export const OPERATORS: { readonly [Name in OperationName]: Operator<Name> } = {
  input: inputOperator,
  parameter: parameterOperator,
  constant: constantOperator,
  index: indexOperator,
  size: sizeOperator,
  random: randomOperator,
  pointwise: pointwiseOperator,
  reduce: reduceOperator,
  expand: expandOperator,
  contract: contractOperator,
  attention: attentionOperator,
  attentionGradient: attentionGradientOperator,
  gather: gatherOperator,
  rearrange: rearrangeOperator,
  slice: sliceOperator,
  split: splitOperator,
  concat: concatOperator,
  pad: padOperator,
  cast: castOperator,
  stopGradient: stopGradientOperator,
};

/** The record of a node's operator. The type forgets which one it is: callers hand it the node's own operation. */
export const operatorOf = (node: Node): Operator<OperationName> =>
  OPERATORS[node.operation.op] as unknown as Operator<OperationName>;
