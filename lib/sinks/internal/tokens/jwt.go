package tokens

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"math/big"
)

// SignRS256 returns a JWT of claims, signed with an RSA key. An empty keyID is left out.
func SignRS256(key *rsa.PrivateKey, keyID string, claims any) (string, error) {
	return sign("RS256", keyID, claims, func(digest []byte) ([]byte, error) {
		return rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, digest)
	})
}

// SignES256 returns a JWT of claims, signed with a key on the curve P-256. An empty keyID is left
// out. The signature is deterministic (RFC 6979): processes that sign the same claims have the same
// token.
func SignES256(key *ecdsa.PrivateKey, keyID string, claims any) (string, error) {
	return sign("ES256", keyID, claims, func(digest []byte) ([]byte, error) {
		der, err := key.Sign(nil, digest, crypto.SHA256)
		if err != nil {
			return nil, err
		}
		var pair struct{ R, S *big.Int }
		if _, err := asn1.Unmarshal(der, &pair); err != nil {
			return nil, err
		}
		signature := make([]byte, 64) // RFC 7518, section 3.4
		pair.R.FillBytes(signature[:32])
		pair.S.FillBytes(signature[32:])
		return signature, nil
	})
}

func sign(algorithm, keyID string, claims any, signature func(digest []byte) ([]byte, error)) (string, error) {
	header, err := json.Marshal(struct {
		Algorithm string `json:"alg"`
		Type      string `json:"typ"`
		KeyID     string `json:"kid,omitempty"`
	}{algorithm, "JWT", keyID})
	if err != nil {
		return "", err
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	encode := base64.RawURLEncoding.EncodeToString
	text := encode(header) + "." + encode(payload)
	digest := sha256.Sum256([]byte(text))
	signed, err := signature(digest[:])
	if err != nil {
		return "", err
	}
	return text + "." + encode(signed), nil
}
