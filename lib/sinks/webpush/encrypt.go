package webpush

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
)

const (
	// recordSize is the size of a record, and of a body that every push service takes (RFC 8030,
	// section 7.2). A push message is one record.
	recordSize = 4096
	saltBytes  = 16
	pointBytes = 65
	// maxPlain is what a record leaves to the message: its header, the delimiter and the
	// authentication tag take the rest.
	maxPlain = recordSize - (saltBytes + 4 + 1 + pointBytes) - 1 - 16
)

// encryptFor encrypts plain for a subscription, with a key and a salt of its own.
func encryptFor(to subscription, plain []byte) ([]byte, error) {
	key, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making a key: %w", err)
	}
	salt := make([]byte, saltBytes)
	_, _ = rand.Read(salt) // it never fails
	return encrypt(plain, to.key, to.auth, key, salt)
}

// encrypt makes plain the one record of a push message (RFC 8291 on RFC 8188, aes128gcm): from is the
// sender's key for this message, to and auth are the browser's. It is not padded: a push service that
// bridges to another one takes less than a full record.
func encrypt(plain []byte, to *ecdh.PublicKey, auth []byte, from *ecdh.PrivateKey, salt []byte) ([]byte, error) {
	shared, err := from.ECDH(to)
	if err != nil {
		return nil, fmt.Errorf("agreeing on a secret: %w", err)
	}
	sender := from.PublicKey().Bytes()
	input, err := hkdf.Key(sha256.New, shared, auth, "WebPush: info\x00"+string(to.Bytes())+string(sender), sha256.Size)
	if err != nil {
		return nil, fmt.Errorf("deriving the keying material: %w", err)
	}
	key, err := hkdf.Key(sha256.New, input, salt, "Content-Encoding: aes128gcm\x00", 16)
	if err != nil {
		return nil, fmt.Errorf("deriving the key: %w", err)
	}
	nonce, err := hkdf.Key(sha256.New, input, salt, "Content-Encoding: nonce\x00", 12)
	if err != nil {
		return nil, fmt.Errorf("deriving the nonce: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("making the cipher: %w", err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("making the cipher: %w", err)
	}
	out := make([]byte, 0, recordSize)
	out = append(out, salt...)
	out = binary.BigEndian.AppendUint32(out, recordSize)
	out = append(out, byte(len(sender)))
	out = append(out, sender...)
	const last = 2 // the delimiter of the last record
	return aead.Seal(out, nonce, append(plain[:len(plain):len(plain)], last), nil), nil
}
