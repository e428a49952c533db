// AWS's own KMS client against a KMS: calls right and wrong, each checked for its HTTP status, the
// name of its error and the shape of its answer. Attested answers are opened here with node:crypto
// alone.
//
//   AWS_ENDPOINT_URL_KMS=… AWS_REGION=… AWS_ACCESS_KEY_ID=… AWS_SECRET_ACCESS_KEY=…
//   NODE_EXTRA_CA_CERTS=ca.pem node kms_client.mjs DOCUMENT RECIPIENT.pem
//
// Prints one line a call; the status is 0 when all were as expected.
import assert from 'node:assert/strict'
import crypto from 'node:crypto'
import { readFileSync } from 'node:fs'
import * as kms from '@aws-sdk/client-kms'

const [documentPath, keyPath] = process.argv.slice(2)
const recipientKey = crypto.createPrivateKey(readFileSync(keyPath))
const Recipient = {
  KeyEncryptionAlgorithm: 'RSAES_OAEP_SHA_256',
  AttestationDocument: readFileSync(documentPath)
}
const client = new kms.KMSClient({ maxAttempts: 1 })
const bytes = (text) => new TextEncoder().encode(text)
let calls = 0

const send = (name, input, on = client) => on.send(new kms[`${name}Command`](input))

// A call that must succeed; check() looks at the answer.
async function right (name, input, check = () => {}) {
  const answer = await send(name, input)
  assert.equal(answer.$metadata.httpStatusCode, 200)
  assert.match(answer.$metadata.requestId, /^[0-9a-f-]{36}$/)
  check(answer)
  console.log(`${++calls} ${name}: ok`)
  return answer
}

// A call that must fail with an error of this name.
async function wrong (name, input, error, { status = 400, message, on = client } = {}) {
  try {
    await send(name, input, on)
  } catch (found) {
    assert.equal(found.name, error, `${name}: ${found}`)
    assert.equal(found.$metadata.httpStatusCode, status)
    assert.match(found.$metadata.requestId, /^[0-9a-f-]{36}$/)
    assert.equal(found.$fault, 'client')
    if (kms[error]) assert.ok(found instanceof kms[error], `${error} is not of its class`)
    if (message) assert.match(found.message, message)
    console.log(`${++calls} ${name}: ${error}`)
    return
  }
  assert.fail(`${name}: expected ${error}, found success`)
}

// One element of BER: X.690 section 8.1, definite and indefinite lengths.
function element (data, at) {
  const tag = data[at]
  let length = data[at + 1]
  let start = at + 2
  if (length === 0x80) {
    const children = []
    while (data[start] !== 0 || data[start + 1] !== 0) {
      const child = element(data, start)
      children.push(child)
      start = child.end
    }
    return { tag, children, end: start + 2 }
  }
  if (length > 0x80) {
    const size = length & 0x7f
    length = data.readUIntBE(start, size)
    start += size
  }
  const value = data.subarray(start, start + length)
  const children = []
  if (tag & 0x20) for (let i = 0; i < length; i = children.at(-1).end) children.push(element(value, i))
  return { tag, value, children, end: start + length }
}

function open (ciphertextForRecipient) {
  const info = element(Buffer.from(ciphertextForRecipient), 0)
  const [, recipients, content] = info.children[1].children[0].children
  const [, ski, , encryptedKey] = recipients.children[0].children
  const spki = crypto.createPublicKey(recipientKey).export({ type: 'spki', format: 'der' })
  assert.deepEqual(ski.value, crypto.createHash('sha256').update(spki).digest())
  const key = crypto.privateDecrypt({
    key: recipientKey,
    padding: crypto.constants.RSA_PKCS1_OAEP_PADDING,
    oaepHash: 'sha256'
  }, encryptedKey.value)
  const [, algorithm, encrypted] = content.children
  const cipher = crypto.createDecipheriv('aes-256-cbc', key, algorithm.children[1].value)
  const ciphertext = encrypted.value ?? Buffer.concat(encrypted.children.map((c) => c.value))
  return Buffer.concat([cipher.update(ciphertext), cipher.final()])
}

const { KeyMetadata: key } = await right('CreateKey', { Description: 'by the SDK' }, (a) => {
  assert.ok(a.KeyMetadata.CreationDate instanceof Date)
  assert.equal(a.KeyMetadata.KeyState, 'Enabled')
  assert.deepEqual(a.KeyMetadata.EncryptionAlgorithms, ['SYMMETRIC_DEFAULT'])
})
const { KeyMetadata: other } = await right('CreateKey', {})
const KeyId = key.Arn
const EncryptionContext = { Purpose: 'AgentSecrets', enclave: 'agent' }
await right('DescribeKey', { KeyId: key.KeyId }, (a) => assert.equal(a.KeyMetadata.Arn, KeyId))
await wrong('DescribeKey', { KeyId: 'alias/none' }, 'NotFoundException', { message: /alias\/none is not found/ })
await wrong('DescribeKey', { KeyId: 'nonsense' }, 'NotFoundException', { message: /Invalid keyId/ })

// The five attested operations.
const data = await right('GenerateDataKey', { KeyId, KeySpec: 'AES_256', EncryptionContext, Recipient }, (a) => {
  assert.equal(a.Plaintext, undefined)
  assert.equal(a.KeyId, KeyId)
})
const dataKey = open(data.CiphertextForRecipient)
assert.equal(dataKey.length, 32)
const { CiphertextBlob } = data
await right('Decrypt', { KeyId, CiphertextBlob, EncryptionContext, Recipient }, (a) => {
  assert.equal(a.Plaintext, undefined)
  assert.deepEqual(open(a.CiphertextForRecipient), dataKey)
})
await right('Decrypt', { KeyId, CiphertextBlob, EncryptionContext }, (a) => {
  assert.equal(a.CiphertextForRecipient, undefined)
  assert.deepEqual(Buffer.from(a.Plaintext), dataKey)
})
await right('GenerateRandom', { NumberOfBytes: 48, Recipient }, (a) => {
  assert.equal(a.Plaintext, undefined)
  assert.equal(open(a.CiphertextForRecipient).length, 48)
})
await right('GenerateDataKeyPair', { KeyId, KeyPairSpec: 'ECC_NIST_P256', Recipient }, (a) => {
  assert.equal(a.PrivateKeyPlaintext, undefined)
  const pair = crypto.createPrivateKey({ key: open(a.CiphertextForRecipient), format: 'der', type: 'pkcs8' })
  const spki = crypto.createPublicKey(pair).export({ type: 'spki', format: 'der' })
  assert.deepEqual(spki, Buffer.from(a.PublicKey))
})
const { KeyMetadata: agreeing } = await right('CreateKey', { KeySpec: 'ECC_NIST_P384', KeyUsage: 'KEY_AGREEMENT' })
const peer = crypto.generateKeyPairSync('ec', { namedCurve: 'P-384' })
const { PublicKey } = await right('GetPublicKey', { KeyId: agreeing.KeyId })
await right('DeriveSharedSecret', {
  KeyId: agreeing.KeyId,
  KeyAgreementAlgorithm: 'ECDH',
  PublicKey: peer.publicKey.export({ type: 'spki', format: 'der' }),
  Recipient
}, (a) => {
  const theirs = crypto.createPublicKey({ key: Buffer.from(PublicKey), format: 'der', type: 'spki' })
  const secret = crypto.diffieHellman({ privateKey: peer.privateKey, publicKey: theirs })
  assert.equal(a.SharedSecret, undefined)
  assert.deepEqual(open(a.CiphertextForRecipient), secret)
})

// Recipients that must not be served.
const forged = Uint8Array.from(Recipient.AttestationDocument)
forged[forged.length - 1] ^= 1
for (const bad of [
  { ...Recipient, AttestationDocument: forged },
  { ...Recipient, AttestationDocument: Recipient.AttestationDocument.subarray(1) },
  { ...Recipient, KeyEncryptionAlgorithm: 'RSAES_OAEP_SHA_1' },
  { KeyEncryptionAlgorithm: 'RSAES_OAEP_SHA_256' }
]) await wrong('GenerateRandom', { NumberOfBytes: 8, Recipient: bad }, 'ValidationException')

// Contexts, keys and ciphertexts that do not belong together.
await wrong('Decrypt', { CiphertextBlob }, 'InvalidCiphertextException')
await wrong('Decrypt', { CiphertextBlob, EncryptionContext: { ...EncryptionContext, enclave: 'x' } }, 'InvalidCiphertextException')
await wrong('Decrypt', { KeyId: other.Arn, CiphertextBlob, EncryptionContext }, 'IncorrectKeyException')
await wrong('Decrypt', { CiphertextBlob: bytes('nonsense') }, 'InvalidCiphertextException')
const sealed = await right('Encrypt', { KeyId, Plaintext: bytes('hello'), EncryptionContext })
await right('ReEncrypt', {
  CiphertextBlob: sealed.CiphertextBlob,
  SourceEncryptionContext: EncryptionContext,
  DestinationKeyId: other.Arn
}, (a) => assert.deepEqual([a.SourceKeyId, a.KeyId], [KeyId, other.Arn]))
await right('GenerateDataKeyWithoutPlaintext', { KeyId, NumberOfBytes: 64 }, (a) => assert.equal(a.Plaintext, undefined))
await right('GenerateDataKeyPairWithoutPlaintext', { KeyId, KeyPairSpec: 'RSA_2048' }, (a) =>
  assert.equal(a.PrivateKeyPlaintext, undefined))

// Parameters out of bounds.
await wrong('GenerateDataKey', { KeyId }, 'ValidationException')
await wrong('GenerateDataKey', { KeyId, NumberOfBytes: 1025 }, 'ValidationException', { message: /less than or equal to 1024/ })
await wrong('GenerateDataKey', { KeyId, NumberOfBytes: 8, KeySpec: 'AES_256' }, 'ValidationException')
await wrong('Encrypt', { KeyId, Plaintext: new Uint8Array(4097) }, 'ValidationException')
await wrong('GenerateDataKey', { KeyId, NumberOfBytes: 8, DryRun: true }, 'DryRunOperationException')
await wrong('GenerateDataKey', { KeyId, NumberOfBytes: 8, GrantTokens: ['x'] }, 'InvalidGrantTokenException')

// Signatures and MACs.
const { KeyMetadata: signing } = await right('CreateKey', { KeySpec: 'ECC_NIST_P256', KeyUsage: 'SIGN_VERIFY' })
const message = { KeyId: signing.KeyId, Message: bytes('message'), SigningAlgorithm: 'ECDSA_SHA_256' }
const { Signature } = await right('Sign', message)
await right('Verify', { ...message, Signature }, (a) => assert.equal(a.SignatureValid, true))
await wrong('Verify', { ...message, Message: bytes('x'), Signature }, 'KMSInvalidSignatureException')
await wrong('Sign', { ...message, KeyId }, 'InvalidKeyUsageException')
const { KeyMetadata: macs } = await right('CreateKey', { KeySpec: 'HMAC_256', KeyUsage: 'GENERATE_VERIFY_MAC' })
const macInput = { KeyId: macs.KeyId, Message: bytes('message'), MacAlgorithm: 'HMAC_SHA_256' }
const { Mac } = await right('GenerateMac', macInput)
await right('VerifyMac', { ...macInput, Mac }, (a) => assert.equal(a.MacValid, true))
await wrong('VerifyMac', { ...macInput, Mac: bytes('x') }, 'KMSInvalidMacException')

// Policies.
const statement = (Sid, Effect, Action, more) =>
  ({ Sid, Effect, Principal: { AWS: `arn:aws:iam::${key.AWSAccountId}:root` }, Action, Resource: '*', ...more })
const document = (pcr) => JSON.stringify({
  Version: '2012-10-17',
  Statement: [
    statement('manage', 'Allow', ['kms:Describe*', 'kms:Get*', 'kms:Put*']),
    statement('attested', 'Allow', 'kms:GenerateDataKey', {
      Condition: { StringEqualsIgnoreCase: { 'kms:RecipientAttestation:PCR0': pcr } }
    })
  ]
})
const { KeyMetadata: guarded } = await right('CreateKey', { Policy: document('0'.repeat(96)) })
await wrong('GenerateDataKey', { KeyId: guarded.Arn, NumberOfBytes: 8, Recipient }, 'AccessDeniedException',
  { message: /^User: arn:aws:iam::.* is not authorized to perform: kms:GenerateDataKey on resource: arn:aws:kms/ })
await right('PutKeyPolicy', { KeyId: guarded.KeyId, PolicyName: 'default', Policy: document(process.env.PCR0.toUpperCase()) })
await right('GenerateDataKey', { KeyId: guarded.Arn, NumberOfBytes: 8, Recipient })
await wrong('GenerateDataKey', { KeyId: guarded.Arn, NumberOfBytes: 8 }, 'AccessDeniedException')
await right('GetKeyPolicy', { KeyId: guarded.Arn }, (a) => assert.equal(a.PolicyName, 'default'))
await wrong('PutKeyPolicy', { KeyId: guarded.Arn, Policy: '{' }, 'MalformedPolicyDocumentException')

// Names, states, grants, lists.
await right('CreateAlias', { AliasName: 'alias/sdk', TargetKeyId: key.KeyId })
await wrong('CreateAlias', { AliasName: 'alias/sdk', TargetKeyId: key.KeyId }, 'AlreadyExistsException')
await right('Decrypt', { KeyId: 'alias/sdk', CiphertextBlob, EncryptionContext })
await right('TagResource', { KeyId, Tags: [{ TagKey: 'a', TagValue: 'b' }] })
await right('ListResourceTags', { KeyId }, (a) => assert.deepEqual(a.Tags, [{ TagKey: 'a', TagValue: 'b' }]))
const grant = await right('CreateGrant', {
  KeyId,
  GranteePrincipal: `arn:aws:iam::${key.AWSAccountId}:role/enclave`,
  Operations: ['Decrypt'],
  Constraints: { EncryptionContextSubset: EncryptionContext }
})
await right('ListGrants', { KeyId }, (a) => {
  assert.equal(a.Grants[0].GrantId, grant.GrantId)
  assert.ok(a.Grants[0].CreationDate instanceof Date)
})
await right('RevokeGrant', { KeyId, GrantId: grant.GrantId })
await wrong('RevokeGrant', { KeyId, GrantId: grant.GrantId }, 'NotFoundException')
await right('DisableKey', { KeyId: other.KeyId })
await wrong('Encrypt', { KeyId: other.KeyId, Plaintext: bytes('x') }, 'DisabledException')
await right('ScheduleKeyDeletion', { KeyId: other.KeyId, PendingWindowInDays: 7 }, (a) => {
  assert.equal(a.KeyState, 'PendingDeletion')
  assert.ok(a.DeletionDate instanceof Date)
})
await wrong('Encrypt', { KeyId: other.KeyId, Plaintext: bytes('x') }, 'KMSInvalidStateException')
await right('CancelKeyDeletion', { KeyId: other.KeyId })
await right('EnableKeyRotation', { KeyId, RotationPeriodInDays: 90 })
await right('GetKeyRotationStatus', { KeyId }, (a) => assert.equal(a.KeyRotationEnabled, true))
await right('RotateKeyOnDemand', { KeyId })
await right('Decrypt', { CiphertextBlob, EncryptionContext }, (a) => assert.deepEqual(Buffer.from(a.Plaintext), dataKey))
const found = []
for await (const page of kms.paginateListKeys({ client, pageSize: 2 }, {})) found.push(...page.Keys)
assert.ok(found.length >= 6 && found.some((k) => k.KeyArn === KeyId))
console.log(`${++calls} ListKeys: ok, ${found.length} keys in pages of 2`)
await wrong('ListKeys', { Marker: '!' }, 'InvalidMarkerException')

// Signatures that must not be believed.
const id = process.env.AWS_ACCESS_KEY_ID
const stranger = (credentials, more) => new kms.KMSClient({ maxAttempts: 1, credentials, ...more })
await wrong('ListKeys', {}, 'InvalidSignatureException', { on: stranger({ accessKeyId: id, secretAccessKey: 'x' }) })
await wrong('ListKeys', {}, 'UnrecognizedClientException', { on: stranger({ accessKeyId: 'AKIAX', secretAccessKey: 'x' }) })
await wrong('ListKeys', {}, 'InvalidSignatureException', { on: new kms.KMSClient({ maxAttempts: 1, region: 'eu-central-1' }) })
console.log(`${calls} calls, all as expected`)
