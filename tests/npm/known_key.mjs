// The AWS Encryption SDK with one data key that is known beforehand, in place of a KMS: what is
// left is the message format alone.
//
//   node known_key.mjs encrypt HEXKEY ARN FRAME [KEY=VALUE...] < plaintext > message
//   node known_key.mjs decrypt HEXKEY [KEY=VALUE...] < message > plaintext
//
// decrypt demands exactly the pairs given, and prints nothing unless all of the message verified.
import { buffer } from 'node:stream/consumers'
import {
  AlgorithmSuiteIdentifier,
  buildClient,
  CommitmentPolicy,
  EncryptedDataKey,
  KeyringNode,
  KeyringTraceFlag,
} from '@aws-crypto/client-node'

class KnownKey extends KeyringNode {
  constructor (hex, arn) {
    super()
    Object.defineProperty(this, 'key', { value: Buffer.from(hex, 'hex') })
    Object.defineProperty(this, 'arn', { value: arn })
  }

  async _onEncrypt (material) {
    const trace = { keyNamespace: 'aws-kms', keyName: this.arn }
    return material
      .setUnencryptedDataKey(new Uint8Array(this.key), {
        ...trace,
        flags: KeyringTraceFlag.WRAPPING_KEY_GENERATED_DATA_KEY
      })
      .addEncryptedDataKey(
        new EncryptedDataKey({
          providerId: 'aws-kms',
          providerInfo: this.arn,
          encryptedDataKey: Buffer.from('none')
        }),
        KeyringTraceFlag.WRAPPING_KEY_ENCRYPTED_DATA_KEY
      )
  }

  async _onDecrypt (material, encryptedDataKeys) {
    const [{ providerId, providerInfo }] = encryptedDataKeys
    if (encryptedDataKeys.length !== 1 || providerId !== 'aws-kms') throw new Error('data keys')
    return material.setUnencryptedDataKey(new Uint8Array(this.key), {
      keyNamespace: providerId,
      keyName: providerInfo,
      flags: KeyringTraceFlag.WRAPPING_KEY_DECRYPTED_DATA_KEY
    })
  }
}

const pairs = (list) => Object.fromEntries(list.map((pair) => pair.split(/=(.*)/s).slice(0, 2)))

const { encrypt, decrypt } = buildClient(CommitmentPolicy.REQUIRE_ENCRYPT_REQUIRE_DECRYPT)
const [verb, hex, ...rest] = process.argv.slice(2)
const input = await buffer(process.stdin)

if (verb === 'encrypt') {
  const [arn, frameLength, ...context] = rest
  const { result } = await encrypt(new KnownKey(hex, arn), input, {
    suiteId: AlgorithmSuiteIdentifier.ALG_AES256_GCM_IV12_TAG16_HKDF_SHA512_COMMIT_KEY,
    frameLength: Number(frameLength),
    encryptionContext: pairs(context)
  })
  process.stdout.write(result)
} else {
  const { plaintext, messageHeader } = await decrypt(new KnownKey(hex), input)
  const found = JSON.stringify(Object.entries(messageHeader.encryptionContext).sort())
  const wanted = JSON.stringify(Object.entries(pairs(rest)).sort())
  if (found !== wanted) throw new Error(`context: expected ${wanted}, found ${found}`)
  process.stdout.write(plaintext)
}
