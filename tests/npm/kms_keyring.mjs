// The AWS Encryption SDK with its own KMS keyring, as an authorised person would use it without
// any software of ours.
//
//   AWS_ENDPOINT_URL_KMS=... AWS_REGION=... AWS_ACCESS_KEY_ID=... AWS_SECRET_ACCESS_KEY=...
//   NODE_EXTRA_CA_CERTS=ca.pem
//   node kms_keyring.mjs encrypt ARN[,ARN...] FRAME [KEY=VALUE...] < plaintext > message
//   node kms_keyring.mjs decrypt ARN [KEY=VALUE...] < message > plaintext
import { buffer } from 'node:stream/consumers'
import {
  AlgorithmSuiteIdentifier,
  buildClient,
  CommitmentPolicy,
  KmsKeyringNode
} from '@aws-crypto/client-node'

const pairs = (list) => Object.fromEntries(list.map((pair) => pair.split(/=(.*)/s).slice(0, 2)))

const { encrypt, decrypt } = buildClient(CommitmentPolicy.REQUIRE_ENCRYPT_REQUIRE_DECRYPT)
const [verb, arn, ...rest] = process.argv.slice(2)
const input = await buffer(process.stdin)

if (verb === 'encrypt') {
  const [frameLength, ...context] = rest
  const [generatorKeyId, ...keyIds] = arn.split(',')
  const { result } = await encrypt(new KmsKeyringNode({ generatorKeyId, keyIds }), input, {
    suiteId: AlgorithmSuiteIdentifier.ALG_AES256_GCM_IV12_TAG16_HKDF_SHA512_COMMIT_KEY,
    frameLength: Number(frameLength),
    encryptionContext: pairs(context)
  })
  process.stdout.write(result)
} else {
  const keyring = new KmsKeyringNode({ keyIds: [arn] })
  const { plaintext, messageHeader } = await decrypt(keyring, input)
  for (const [key, value] of Object.entries(pairs(rest))) {
    const found = messageHeader.encryptionContext[key]
    if (found !== value) throw new Error(`${key}: expected ${value}, found ${found}`)
  }
  process.stdout.write(plaintext)
}
