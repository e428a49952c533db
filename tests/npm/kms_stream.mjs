// The AWS Encryption SDK's own streams over files, for bench/bench_seal_stream.py.
//
//   AWS_ENDPOINT_URL_KMS=... as for kms_keyring.mjs
//   node kms_stream.mjs encrypt ARN FRAME IN OUT [KEY=VALUE...]
//   node kms_stream.mjs decrypt ARN IN OUT
import { createReadStream, createWriteStream } from 'node:fs'
import { pipeline } from 'node:stream/promises'
import {
  AlgorithmSuiteIdentifier,
  buildClient,
  CommitmentPolicy,
  KmsKeyringNode
} from '@aws-crypto/client-node'

const { encryptStream, decryptUnsignedMessageStream } = buildClient(
  CommitmentPolicy.REQUIRE_ENCRYPT_REQUIRE_DECRYPT)
const [verb, arn, ...rest] = process.argv.slice(2)
const frameLength = verb === 'encrypt' ? Number(rest.shift()) : 0
const [from, to, ...context] = rest

const work = verb === 'encrypt'
  ? encryptStream(new KmsKeyringNode({ generatorKeyId: arn }), {
    suiteId: AlgorithmSuiteIdentifier.ALG_AES256_GCM_IV12_TAG16_HKDF_SHA512_COMMIT_KEY,
    frameLength,
    encryptionContext: Object.fromEntries(context.map((pair) => pair.split(/=(.*)/s).slice(0, 2)))
  })
  : decryptUnsignedMessageStream(new KmsKeyringNode({ keyIds: [arn] }))
await pipeline(createReadStream(from, { highWaterMark: 1 << 20 }), work, createWriteStream(to))
